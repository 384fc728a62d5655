'use strict'

// The blocks of the documentation as TypeScript sees them, and what the declarations of the package say.

const path = require('node:path')

const ts = require('typescript')

const { ROOT } = require('../../scripts/setup.js')

/** Where the blocks seem to lie: from here `provision-vm` is this very repository, as in an app that has installed it. */
const FOLDER = path.join(ROOT, '__test__')

/**
 * What a block may use without saying where it comes from. `docs-around.mjs` has the things themselves. What the modules of the app around
 * the examples have (`@/lib/jobs`), `types/app.d.ts` says.
 */
const AROUND = `
declare global {
  const provisionVM: typeof import('provision-vm').provisionVM
  type ProvisionVMParams = import('provision-vm').ProvisionVMParams
  type ProvisionOptions = import('provision-vm').ProvisionOptions
  type ProvisionVMResult = import('provision-vm').ProvisionVMResult
  /** The job of the examples, and several of them. */
  const params: ProvisionVMParams
  const job: ProvisionVMParams
  const jobs: ProvisionVMParams[]
  /** A secret for callbacks, and the route of the app that takes them. */
  const secret: string
  const POST: (request: Request) => Promise<Response>
  /** A local cloud that somebody has started. */
  const cloud: import('provision-vm/local-cloud').LocalCloud
}
export {}
`

/** What the examples load that is not installed here. */
const STRANGERS = `
declare module 'next' {
  export interface NextConfig { serverExternalPackages?: string[]; [option: string]: unknown }
}
declare module 'vitest' {
  type Work = () => unknown
  export const beforeAll: (work: Work) => void, beforeEach: typeof beforeAll, afterAll: typeof beforeAll, afterEach: typeof beforeAll
  export function test(name: string, work: Work, ms?: number): void
  export function expect(value: unknown): { toBe(value: unknown): void; toEqual(value: unknown): void; toMatchObject(value: object): void }
}
`

const STRICT = {
  strict: true,
  noEmit: true,
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2022.d.ts'],
  module: ts.ModuleKind.Preserve,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  // A block is a module also where it imports nothing, so that it may await.
  moduleDetection: ts.ModuleDetectionKind.Force,
  jsx: ts.JsxEmit.Preserve,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  noImplicitReturns: true,
  types: ['node'],
  skipLibCheck: true,
}

/** In JavaScript nobody can say what it is that was caught. */
const PLAIN = { ...STRICT, allowJs: true, checkJs: true, useUnknownInCatchVariables: false }

const isScript = ({ language }) => language === 'js'

/** What TypeScript has to say against blocks, each complaint with its page and line. */
function complaints(blocks) {
  return [[blocks.filter(isScript), PLAIN], [blocks.filter((block) => !isScript(block)), STRICT]].flatMap(([some, options]) => {
    const files = new Map(some.map((block) => [fileOf(block), block]))
    const [around, strangers] = ['around.d.ts', 'strangers.d.ts'].map((name) => path.join(FOLDER, name))
    const texts = new Map([...[...files].map(([file, { code }]) => [file, code]), [around, AROUND], [strangers, STRANGERS]])
    const host = ts.createCompilerHost(options)
    const { fileExists, readFile, getSourceFile, directoryExists } = host
    const folders = new Set([...files.keys()].flatMap(parents))
    host.getCurrentDirectory = () => ROOT
    host.directoryExists = (folder) => folders.has(path.normalize(folder)) || directoryExists(folder)
    host.fileExists = (file) => texts.has(path.normalize(file)) || fileExists(file)
    host.readFile = (file) => texts.get(path.normalize(file)) ?? readFile(file)
    host.getSourceFile = (file, how, ...rest) => {
      const text = texts.get(path.normalize(file))
      return text === undefined ? getSourceFile(file, how, ...rest) : ts.createSourceFile(file, text, how, true)
    }
    const app = path.join(ROOT, '__test__', 'types', 'app.d.ts')
    const program = ts.createProgram([...files.keys(), around, strangers, app], options, host)
    return ts.getPreEmitDiagnostics(program).flatMap(({ file, start, messageText }) => {
      const why = ts.flattenDiagnosticMessageText(messageText, '\n')
      const block = file && files.get(path.normalize(file.fileName))
      if (block) return `${block.page}:${block.line + file.getLineAndCharacterOfPosition(start).line}: ${why}`
      // What a block loads of our own JavaScript is not what is looked at here.
      return file?.fileName.endsWith('.js') ? [] : `${file?.fileName ?? 'the options'}: ${why}`
    })
  })
}

/** A block that begins with a comment of nothing but a path lies there, so that others of its page can import it. */
function fileOf({ page, line, language, code }) {
  const name = page.replace(/\W/g, '-')
  const [, own] = /^\/\/ ([\w./-]+\.tsx?)(?:;.*)?\n/.exec(code) ?? []
  return own ? path.join(FOLDER, name, own) : path.join(FOLDER, `${name}-${line}.${language}`)
}

const parents = (file) => (file === path.dirname(file) ? [] : [path.dirname(file), ...parents(path.dirname(file))])

/**
 * A block as a program that can run, or nothing if it cannot. **It can if all that it loads is `provision-vm`, Node.js's own or the local
 * cloud of our tests, and it exports nothing**: then it needs no app around it. `docs.test.js` runs it, amid what `docs-around.mjs` has.
 *
 * A comment that begins with `{` or `[` behind a declaration or an expression, or below it, says what comes out: `__says` holds it
 * against that.
 */
function runnable({ code, language }) {
  const source = ts.createSourceFile(`block.${language}`, code, ts.ScriptTarget.ES2022, true)
  const isOurs = (name) => /^(provision-vm(\/.+)?|node:.+|\.\/support\/simulator\.js)$/.test(name)
  const loaded = []
  const visit = (node) => {
    if (ts.isImportDeclaration(node)) loaded.push(node.moduleSpecifier.text)
    if (ts.isCallExpression(node) && node.expression.getText() === 'require') loaded.push(node.arguments[0].text)
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) loaded.push(node.arguments[0].text)
    ts.forEachChild(node, visit)
  }
  visit(source)
  const isExported = (node) => ts.canHaveModifiers(node) && ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)
  const exports = source.statements.some((node) => ts.isExportAssignment(node) || ts.isExportDeclaration(node) || isExported(node))
  if (exports || !loaded.every(isOurs)) return undefined
  const said = source.statements.toReversed().reduce((text, node) => {
    const name = ts.isVariableStatement(node) ? node.declarationList.declarations[0].name : node.expression
    const [, comment] = /^[ \t]*\n?\/\/ ([{[].*)/.exec(code.slice(node.end)) ?? []
    if (!comment || !name || ts.isObjectBindingPattern(name)) return text
    return `${text.slice(0, node.end)};__says(${name.getText()}, ${JSON.stringify(comment)});${text.slice(node.end)}`
  }, code)
  if (language === 'js') return said
  const { outputText } = ts.transpileModule(said, { compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 } })
  return outputText
}

let known
/** The declarations of `index.d.ts` by their names. */
function declarations() {
  return (known ??= declared())
}

function declared() {
  const file = path.join(ROOT, 'index.d.ts')
  const program = ts.createProgram([file], STRICT)
  const checker = program.getTypeChecker()
  const module = checker.getSymbolAtLocation(program.getSourceFile(file))
  const all = new Map(checker.getExportsOfModule(module).map((symbol) => [symbol.name, symbol]))
  const typeOf = (name) => checker.getDeclaredTypeOfSymbol(all.get(name))
  return {
    /** The names of an interface's own fields, or a class's, and not of what it extends. */
    own: (name) =>
      all
        .get(name)
        .declarations.flatMap(({ members }) => [...members])
        .filter(({ name }) => name)
        .map(({ name }) => name.getText()),
    /** The names of all its fields. */
    fields: (name) => checker.getPropertiesOfType(typeOf(name)).map(({ name }) => name),
    /** The texts of a union of them, in their order. */
    texts: (name) => {
      const [{ type }] = all.get(name).declarations
      return type.types.map((part) => part.literal.text)
    },
    /** The members of a union of objects: each by what its field says, with the names of its other fields. */
    variants: (name, field) => {
      const [{ type }] = all.get(name).declarations
      return type.types.map(({ members }) => {
        const kind = members.find((member) => member.name.getText() === field).type.literal.text
        return [kind, members.map((member) => member.name.getText()).filter((other) => other !== field)]
      })
    },
  }
}

module.exports = { complaints, runnable, declarations }
