'use strict'

// Draws the figures as SVG, in the reader's own light or dark. The same figures always give the same text.

const WAYS = { package: 'this package', plain: 'plain TypeScript' }
const APIS = { hetzner: 'Hetzner', tailscale: 'Tailscale' }

const SIZE = { width: 980, height: 400 }
/** Where the two panels have their axes; to the right of each is room for the names of its lines. */
const LEFT = { x: 60, y: 84, width: 300, height: 230 }
const RIGHT = { x: 622, y: 84, width: 310, height: 230 }
const LABEL_HEIGHT = 16
/** What the longest name of a way takes. */
const NAME_WIDTH = 112

const STYLE = `
  .ground { fill: #ffffff }
  text { font: 12px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #59636e }
  .title { font-size: 15px; font-weight: 600; fill: #1f2328 }
  .grid { stroke: #d1d9e0; stroke-width: 1 }
  .package { --ink: #0969da }
  .plain { --ink: #bc4c00 }
  .line { fill: none; stroke: var(--ink); stroke-width: 2; stroke-linejoin: round }
  .tailscale .line { stroke-dasharray: 5 4 }
  .mark { fill: var(--ink); stroke: var(--ink); stroke-width: 2 }
  .open { fill: #ffffff }
  text.name { fill: var(--ink); font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 }
    text { fill: #9198a1 }
    .title { fill: #f0f6fc }
    .grid { stroke: #30363d }
    .package { --ink: #58a6ff }
    .plain { --ink: #f0883e }
    .open { fill: #0d1117 }
  }`

/**
 * The plot of a run: `series` as `jobs` of the benchmark gives it, and `lags` as `lag` does.
 */
function drawPlot({ series, lags }) {
  const body = [...drawRequests(series), ...drawLags(lags)].map((element) => `  ${element}`).join('\n')
  const name = 'Requests per job against the number of jobs, and the lag from enrolment to the result, of this package and of a plain orchestrator'
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SIZE.width} ${SIZE.height}" width="${SIZE.width}" height="${SIZE.height}" role="img" aria-label="${name}">
  <style>${STYLE}
  </style>
  <rect class="ground" width="100%" height="100%" rx="8"/>
${body}
</svg>
`
}

function drawRequests(series) {
  const lines = Object.keys(WAYS).flatMap((way) =>
    Object.keys(APIS).map((api) => ({
      way,
      api,
      points: series.map(({ jobs, [way]: run }) => ({ jobs, each: run.requests[api] / jobs, isComplete: run.done === jobs })),
    })),
  )
  const each = lines.flatMap(({ points }) => points.map((point) => point.each))
  const x = logScale([1, Math.max(10, ...series.map(({ jobs }) => jobs))], LEFT.x, LEFT.x + LEFT.width)
  const y = logScale([Math.min(...each), Math.max(...each)], LEFT.y + LEFT.height, LEFT.y)
  const labels = spread(lines.map(({ points }) => y(points.at(-1).each)))
  const drawn = lines.map(({ way, api, points }, at) => {
    const places = points.map((point) => ({ ...point, x: x(point.jobs), y: y(point.each) }))
    const marks = places.map((place) => circle(place.x, place.y, place.isComplete ? 'mark' : 'mark open'))
    const name = text(x(x.most) + 16, labels[at] + 4, `${WAYS[way]}, ${APIS[api]}`, 'name')
    return `<g class="${way} ${api}">${polyline(places)}${marks.join('')}${name}</g>`
  })
  const isAnyOpen = lines.some(({ points }) => points.some(({ isComplete }) => !isComplete))
  return [
    text(LEFT.x, 34, 'Requests per job', 'title'),
    text(LEFT.x, 54, 'K jobs in one process, machines that join in 25 s'),
    ...x.ticks.map((tick) => text(x(tick), LEFT.y + LEFT.height + 20, number(tick), '', 'middle')),
    ...y.ticks.flatMap((tick) => [rule(LEFT, y(tick)), text(LEFT.x - 10, y(tick) + 4, number(tick), '', 'end')]),
    text(LEFT.x + LEFT.width / 2, LEFT.y + LEFT.height + 42, 'jobs (K)', '', 'middle'),
    ...(isAnyOpen ? [text(LEFT.x, LEFT.y + LEFT.height + 66, 'Hollow: not every job came to a result. A full bucket holds 3,600 requests.')] : []),
    ...drawn,
  ]
}

/** For each way, which share of its runs had their result within so many seconds of the enrolment. */
function drawLags(lags) {
  const all = Object.keys(WAYS).flatMap((way) => lags[way])
  const end = Math.ceil(Math.max(...all) * 2) / 2
  const x = (seconds) => RIGHT.x + (seconds / end) * RIGHT.width
  const y = (share) => RIGHT.y + (1 - share) * RIGHT.height
  const sortedBy = (way) => lags[way].toSorted((a, b) => a - b)
  // Their names stand at their upper ends, and grow away from each other.
  const quicker = sortedBy('package').at(-1) <= sortedBy('plain').at(-1) ? 'package' : 'plain'
  const drawn = Object.keys(WAYS).map((way) => {
    const sorted = sortedBy(way)
    const steps = sorted.flatMap((seconds, at) => [
      { x: x(seconds), y: y(at / sorted.length) },
      { x: x(seconds), y: y((at + 1) / sorted.length) },
    ])
    const top = x(sorted.at(-1))
    const name =
      way === quicker
        ? text(top + 4, RIGHT.y - 10, WAYS[way], 'name', 'end')
        : text(Math.min(top, SIZE.width - NAME_WIDTH - 4) + 4, RIGHT.y - 10, WAYS[way], 'name')
    return `<g class="${way}">${polyline(steps)}${name}</g>`
  })
  const seconds = Array.from({ length: end * 2 + 1 }, (_, at) => at / 2)
  return [
    text(RIGHT.x, 34, 'From enrolment to result', 'title'),
    text(RIGHT.x, 54, `share of ${lags.package.length} runs of one job that had their result`),
    ...[0, 0.25, 0.5, 0.75, 1].flatMap((share) => [rule(RIGHT, y(share)), text(RIGHT.x - 10, y(share) + 4, `${share * 100} %`, '', 'end')]),
    ...seconds.map((tick) => text(x(tick), RIGHT.y + RIGHT.height + 20, number(tick), '', 'middle')),
    text(RIGHT.x + RIGHT.width / 2, RIGHT.y + RIGHT.height + 42, 'seconds after the machine joined', '', 'middle'),
    ...drawn,
  ]
}

/** A logarithmic axis over whole powers of ten. */
function logScale([least, most], from, to) {
  const low = Math.floor(Math.log10(least))
  const high = Math.max(low + 1, Math.ceil(Math.log10(most)))
  const scale = (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from)
  scale.ticks = Array.from({ length: high - low + 1 }, (_, at) => 10 ** (low + at))
  scale.most = 10 ** high
  return scale
}

/** Moves labels apart that would lie on each other, downwards. */
function spread(heights) {
  const order = heights.map((_, at) => at).sort((a, b) => heights[a] - heights[b])
  const moved = [...heights]
  order.forEach((at, place) => {
    if (place > 0) moved[at] = Math.max(moved[at], moved[order[place - 1]] + LABEL_HEIGHT)
  })
  return moved
}

const coordinate = (value) => value.toFixed(1)
const number = (value) => value.toLocaleString('en-US', { maximumFractionDigits: 3 })

function polyline(places) {
  return `<polyline class="line" points="${places.map(({ x, y }) => `${coordinate(x)},${coordinate(y)}`).join(' ')}"/>`
}

function circle(x, y, kind) {
  return `<circle class="${kind}" cx="${coordinate(x)}" cy="${coordinate(y)}" r="4"/>`
}

function rule({ x, width }, y) {
  return `<line class="grid" x1="${x}" x2="${x + width}" y1="${coordinate(y)}" y2="${coordinate(y)}"/>`
}

function text(x, y, words, kind = '', anchor = 'start') {
  return `<text x="${coordinate(x)}" y="${coordinate(y)}"${kind && ` class="${kind}"`} text-anchor="${anchor}">${words}</text>`
}

module.exports = { drawPlot }
