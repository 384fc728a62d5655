'use strict'

// The expressions of a workflow, `${{ }}` and `if:`, by GitHub's own evaluator.

let library
/** GitHub's evaluator is an ES module. To be awaited once before anything else here. */
async function loadExpressions() {
  library ??= await import('@actions/expressions')
}

/** What makes `if:` stand on its own; without any of them it means `success() && (…)`. */
const STATUS_FUNCTIONS = ['always', 'cancelled', 'failure', 'success']

/**
 * The value of an expression, as data of the evaluator. A scope has the contexts that may be named, and the status
 * functions that may be called, `{ values: { github: {…} }, functions: { success: () => true } }`; any other is an
 * error, as on GitHub.
 */
function evaluate(text, { values, functions = {} }) {
  const { Evaluator, Lexer, Parser } = library
  const asFunction = ([name, call]) => ({ name, minArgs: 0, maxArgs: 0, call: () => toData(call()) })
  const callable = Object.entries(functions).map(asFunction)
  const { tokens } = new Lexer(text).lex()
  for (const token of tokens) if (typeof token.value === 'string') token.value = unquote(token.value)
  const parsed = new Parser(tokens, Object.keys(values), callable).parse()
  if (!parsed) throw new Error('an expression is empty')
  return new Evaluator(parsed, toData(values), new Map(callable.map((it) => [it.name, it]))).evaluate()
}

/** Whether a step or a job is to run. Nothing, an empty one and one without a status function ask for success. */
function holds(condition, scope) {
  const text = String(condition ?? '').trim()
  const parts = split(text)
  const expressions = parts.filter((part) => part.isExpression).map((part) => part.text)
  const isText = expressions.length > 0 && parts.length > 1
  const bare = expressions.length === 0 && text !== '' ? [text] : expressions
  if (!bare.some(callsStatusFunction) && !scope.functions.success()) return false
  // A `${{ }}` with something beside it makes a text, which is as good as true.
  if (isText) return interpolate(text, scope) !== ''
  return bare.length === 0 || Boolean(fromData(evaluate(bare[0], scope)))
}

/** A scalar of the workflow as text, every `${{ }}` in it replaced by its value. */
function interpolate(value, scope) {
  return resolve(value, scope).coerceString()
}

/** A scalar that may be of another type than text, such as `${{ fromJSON('3') }}` where a number is due. */
function interpolateTyped(value, scope) {
  return fromData(resolve(value, scope))
}

/** An object with its values as texts. */
function interpolateAll(object, scope) {
  return Object.fromEntries(Object.entries(object ?? {}).map(([name, value]) => [name, interpolate(value, scope)]))
}

module.exports = { evaluate, holds, interpolate, interpolateAll, interpolateTyped, loadExpressions }

/** The value of a scalar: of any type if it is one `${{ }}` and nothing else, or else a text. */
function resolve(value, scope) {
  if (typeof value !== 'string') return toData(value ?? null)
  const parts = split(value)
  if (parts.length === 1 && parts[0].isExpression) return evaluate(parts[0].text, scope)
  return toData(parts.map((part) => (part.isExpression ? evaluate(part.text, scope).coerceString() : part.text)).join(''))
}

/** The parts of a text, in order. A `}}` within quotes ends no expression. */
function split(text) {
  const parts = []
  let rest = text
  for (let start = rest.indexOf('${{'); start >= 0; start = rest.indexOf('${{')) {
    const expression = /^((?:'[^']*'|(?!}})[^'])*)}}/.exec(rest.slice(start + 3))
    if (!expression) throw new Error(`an expression is not closed: ${rest.slice(start, start + 80)}`)
    if (start > 0) parts.push({ text: rest.slice(0, start) })
    parts.push({ text: expression[1].trim(), isExpression: true })
    rest = rest.slice(start + 3 + expression[0].length)
  }
  if (rest !== '') parts.push({ text: rest })
  return parts
}

function callsStatusFunction(text) {
  const { tokens } = new library.Lexer(text).lex()
  const names = tokens.filter((_, index) => tokens[index + 1]?.lexeme === '(').map(({ lexeme }) => lexeme.toLowerCase())
  return names.some((name) => STATUS_FUNCTIONS.includes(name))
}

/** A literal with its doubled quotes made one: the evaluator does so with the first of them only. */
function unquote(literal) {
  const first = literal.indexOf("'") + 1
  return literal.slice(0, first) + literal.slice(first).replaceAll("''", "'")
}

function toData(value) {
  const { data } = library
  if (value === null || value === undefined) return new data.Null()
  if (typeof value === 'string') return new data.StringData(value)
  if (typeof value === 'number') return new data.NumberData(value)
  if (typeof value === 'boolean') return new data.BooleanData(value)
  if (Array.isArray(value)) return new data.Array(...value.map(toData))
  return new data.Dictionary(...Object.entries(value).map(([key, it]) => ({ key, value: toData(it) })))
}

function fromData(value) {
  return JSON.parse(JSON.stringify(value, library.data.replacer))
}
