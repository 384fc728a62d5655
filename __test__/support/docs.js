'use strict'

// The pages of the documentation as data: their fenced blocks, headings, links and tables.

const { existsSync, readFileSync, readdirSync, statSync } = require('node:fs')
const path = require('node:path')

const { ROOT } = require('../../scripts/setup.js')

/** The pages at the top of the repository. */
const TOP = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md']

/** Every page, by its path from the top of the repository. */
function pages() {
  const below = readdirSync(path.join(ROOT, 'docs'), { recursive: true }).map((name) => `docs/${name.replaceAll('\\', '/')}`)
  return [...TOP, ...below.filter((name) => name.endsWith('.md')).sort()]
}

const read = (page) => readFileSync(path.join(ROOT, page), 'utf8')

/**
 * The fenced blocks of a text: `{ page, line, language, code }`, in which `line` is that of the first line of the code. A fence that
 * is never closed, or that other Markdown readers would see otherwise, is an error.
 */
function blocks(page, text = read(page)) {
  const found = []
  let open
  for (const [at, line] of text.split('\n').entries()) {
    const fence = /^( *)(`{3,}|~{3,})(.*)$/.exec(line)
    if (open) {
      if (fence && fence[2] === open.fence && fence[3].trim() === '') {
        found.push({ page, line: open.line, language: open.language, code: open.code.map((code) => `${code}\n`).join('') })
        open = undefined
      } else open.code.push(line)
    } else if (fence) {
      if (fence[1] !== '' || fence[2] !== '```') throw new Error(`${page}:${at + 1}: a block begins with three backticks at the margin`)
      open = { fence: fence[2], line: at + 2, language: fence[3].trim(), code: [] }
    }
  }
  if (open) throw new Error(`${page}:${open.line - 1}: the block is never closed`)
  return found
}

/** A text without its fenced blocks; the lines keep their numbers. */
function prose(text) {
  return text.replace(/^```[^]*?^```$/gm, (block) => block.replace(/[^\n]/g, ''))
}

/** The anchors of a page, as GitHub makes them of its headings. */
function anchors(text) {
  const seen = new Map()
  return [...prose(text).matchAll(/^#{1,6} +(.+?) *#*$/gm)].map(([, title]) => {
    const plain = title.replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/[`*]/g, '')
    const slug = plain.toLowerCase().replace(/[^\p{L}\p{N}\p{M}\p{Pc} -]/gu, '').replaceAll(' ', '-')
    const before = seen.get(slug) ?? 0
    seen.set(slug, before + 1)
    return before === 0 ? slug : `${slug}-${before}`
  })
}

/** The links of a page, those in HTML among them: `{ line, target }`. */
function links(text) {
  // What stands in backticks is no link.
  const plain = prose(text).replace(/(`+)(?!`)[^]*?[^`]\1(?!`)/g, (code) => code.replace(/[^\n]/g, ' '))
  const forms = [/\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/, /<(?:a|img)\b[^>]*?\b(?:href|src)="([^"]*)"/, /^\[[^\]]+\]: *(\S+)/]
  const found = [...plain.matchAll(new RegExp(forms.map(({ source }) => source).join('|'), 'gm'))]
  return found.map((match) => ({ line: plain.slice(0, match.index).split('\n').length, target: match[1] ?? match[2] ?? match[3] }))
}

/** What is wrong with a link of a page; nothing if it leads somewhere, or out of the repository. */
function brokenLink(page, target) {
  if (/^(https?|mailto):/.test(target)) return undefined
  const [file, anchor] = decodeURI(target).split('#')
  const where = file === '' ? page : path.posix.join(path.posix.dirname(page), file)
  if (where.startsWith('..')) return 'leads out of the repository'
  const full = path.join(ROOT, where)
  if (!existsSync(full)) return `there is no ${where}`
  if (anchor === undefined) return undefined
  if (statSync(full).isDirectory() || !where.endsWith('.md')) return `${where} has no headings`
  return anchors(read(where)).includes(anchor) ? undefined : `${where} has no heading #${anchor}`
}

/** The part of a page from one heading to the next of its rank or a higher one. */
function section(text, heading) {
  const rank = /^#+/.exec(heading)[0].length
  // A heading in a block is none.
  const lines = prose(text).split('\n')
  const begin = lines.indexOf(heading)
  if (begin === -1) throw new Error(`there is no heading ${heading}`)
  const length = lines.slice(begin + 1).findIndex((line) => new RegExp(`^#{1,${rank}} `).test(line))
  return text.split('\n').slice(begin, length === -1 ? undefined : begin + 1 + length).join('\n')
}

/** The rows of all tables of a text, without their heads, each an array of its cells. */
function rows(text) {
  const cells = (line) => line.slice(1, -1).split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'))
  const lines = prose(text).split('\n')
  const isRow = (line) => /^\|.*\|$/.test(line)
  const isRule = (line) => /^\|( *:?-+:? *\|)+$/.test(line ?? '')
  return lines.filter((line, at) => isRow(line) && !isRule(line) && !isRule(lines[at + 1])).map(cells)
}

/** What stands in backticks in a cell. */
const names = (cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name)

module.exports = { ROOT, pages, read, blocks, prose, anchors, links, brokenLink, section, rows, names }
