/**
 * Makes generators of the functions of the ring, so that one thread can play all its parties.
 *
 * In every function that reaches an operation of `Atomics`, the operation becomes a place to stop:
 * `Atomics.load(words, 1)` → `(yield 7, $.load(words, 1))`, a call of such a function becomes
 * `(yield* call())`, a getter a method, and `new Reader(…)` `(yield* new Reader().$open(…))`. Plain
 * accesses of words, doubles and bytes go through `$` as well; in the fine variant a plain store is
 * a place to stop too, because a process can be killed there. Nothing else is changed, and what it
 * cannot change it refuses.
 */
import fs from "node:fs";
import path from "node:path";
import ts from "typescript";

/** A change of the source that the transformed code has and the real one has not. */
export interface SourceEdit {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

export interface Transformed {
  /** JavaScript of each module, a body of a CommonJS function. */
  readonly modules: ReadonlyMap<string, string>;
  /** Where the code can stop: index → file and line. */
  readonly places: readonly string[];
}

export const ringModules = [
  "claim-lock.ts",
  "ending.ts",
  "failover.ts",
  "lane.ts",
  "losses.ts",
  "ownership.ts",
  "publisher.ts",
  "reader.ts",
  "refusal-log.ts",
  "room.ts",
  "shared-claims.ts",
  "seat.ts",
  "settling.ts",
  "sleep.ts",
  "solo-claims.ts",
  "subscriber.ts",
  "window.ts",
  "../memory/sleep.ts",
] as const;

const folder = path.resolve(import.meta.dirname, "../../../src/bus");
/** What the stage stands in for, and where it stops: see stage.ts. */
const standIns = new Set(["futexWait", "futexWake"]);
const operations = new Set(["load", "store", "add", "compareExchange", "wait"]);

const options: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2024,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  allowImportingTsExtensions: true,
  noEmit: true,
  strict: true,
  lib: ["lib.es2024.d.ts"],
  types: [],
};

type Callable =
  | ts.FunctionDeclaration
  | ts.MethodDeclaration
  | ts.GetAccessorDeclaration
  | ts.ConstructorDeclaration
  | ts.MethodSignature
  | ts.PropertySignature
  | ts.ArrowFunction;

const parsed = new Map<string, ts.SourceFile>();

export function transformRing(edits: readonly SourceEdit[], isFine: boolean): Transformed {
  const sources = new Map(
    ringModules.map((file) => [path.join(folder, file), edited(file, edits)] as const),
  );
  const host = ts.createCompilerHost(options);
  host.getSourceFile = (file) => {
    const text = sources.get(file) ?? ts.sys.readFile(file);
    const key = `${file}\n${sources.get(file) ?? ""}`;
    if (text === undefined) return undefined;
    const source = parsed.get(key) ?? ts.createSourceFile(file, text, ts.ScriptTarget.ES2024, true);
    parsed.set(key, source);
    return source;
  };
  // What other folders export is no part of the ring.
  host.resolveModuleNameLiterals = (literals, containing) =>
    literals.map(({ text }) => {
      const resolvedFileName = path.resolve(path.dirname(containing), text);
      const isOfRing = path.dirname(resolvedFileName) === folder || sources.has(resolvedFileName);
      return {
        resolvedModule: isOfRing ? { resolvedFileName, extension: ts.Extension.Ts } : undefined,
      };
    });
  const program = ts.createProgram([...sources.keys()], options, host);
  const painter = new Painter(program, isFine);
  const files = [...sources.keys()].map((file) => {
    const source = program.getSourceFile(file);
    if (source === undefined) throw new Error(`${file} is not there`);
    return source;
  });
  painter.paint(files);
  const places: string[] = [];
  const modules = new Map(
    files.map((file) => {
      const text = new Rewriter(file, painter, places).rewrite();
      return [path.relative(folder, file.fileName), transpile(text)];
    }),
  );
  return { modules, places };
}

function edited(file: string, edits: readonly SourceEdit[]): string {
  let text = fs.readFileSync(path.join(folder, file), "utf8");
  for (const { from, to } of edits.filter((edit) => edit.file === file)) {
    const parts = text.split(from);
    // The source has changed: whoever changed it has to plant the bug anew.
    if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} times: ${from}`);
    text = parts.join(to);
  }
  return text;
}

const transpiled = new Map<string, string>();

function transpile(text: string): string {
  const known = transpiled.get(text);
  if (known !== undefined) return known;
  const { outputText } = ts.transpileModule(text, {
    compilerOptions: { target: ts.ScriptTarget.ES2024, module: ts.ModuleKind.CommonJS },
  });
  transpiled.set(text, outputText);
  return outputText;
}

/** Finds the functions that have to become generators. */
class Painter {
  readonly isFine: boolean;
  private readonly checker: ts.TypeChecker;
  private readonly painted = new Set<ts.Node>();
  private readonly calls = new Map<ts.Node, ts.Node[]>();

  constructor(program: ts.Program, isFine: boolean) {
    this.checker = program.getTypeChecker();
    this.isFine = isFine;
  }

  paint(files: readonly ts.SourceFile[]): void {
    for (const file of files) this.collect(file, undefined);
    let count: number;
    do {
      count = this.painted.size;
      for (const [caller, callees] of this.calls) {
        if (callees.some((callee) => this.painted.has(callee))) this.painted.add(caller);
      }
      this.paintInterfaces(files);
    } while (this.painted.size > count);
  }

  isPainted(node: ts.Node): boolean {
    return this.painted.has(node);
  }

  /** Whether evaluating the node itself runs something that stops. */
  stops(node: ts.Node): boolean {
    const target = this.targetOf(node);
    return target !== undefined && this.painted.has(target);
  }

  isStandIn(node: ts.Node): boolean {
    if (!ts.isCallExpression(node) || !ts.isIdentifier(node.expression)) return false;
    return standIns.has(node.expression.text);
  }

  /** Name of the typed array that the expression is; the empty text for anything else. */
  arrayOf(node: ts.Expression): string {
    const name = this.checker.getTypeAtLocation(node).getSymbol()?.name ?? "";
    return /^(Int32|Float64|Uint8)Array$/.test(name) ? name : "";
  }

  private collect(node: ts.Node, caller: ts.Node | undefined): void {
    let inside = caller;
    if (isCallable(node)) {
      if (isAsync(node)) return;
      inside = node;
      this.calls.set(node, []);
      // What a callback stops, stops the one that it is in.
      if (ts.isArrowFunction(node) && caller !== undefined) this.calls.get(caller)?.push(node);
    }
    if (inside !== undefined) {
      if (this.stopsHere(node)) this.painted.add(inside);
      const target = this.targetOf(node);
      if (target !== undefined) this.calls.get(inside)?.push(target);
    }
    ts.forEachChild(node, (child) => {
      this.collect(child, inside);
    });
  }

  private stopsHere(node: ts.Node): boolean {
    return (
      isAtomic(node) ||
      isHandlerCall(node) ||
      this.isStandIn(node) ||
      this.isCopy(node) ||
      (this.isFine && this.isStore(node))
    );
  }

  isCopy(node: ts.Node): node is ts.CallExpression {
    return (
      ts.isCallExpression(node) &&
      ts.isPropertyAccessExpression(node.expression) &&
      node.expression.name.text === "set" &&
      this.arrayOf(node.expression.expression) === "Uint8Array"
    );
  }

  isStore(node: ts.Node): node is ts.BinaryExpression & { left: ts.ElementAccessExpression } {
    return (
      ts.isBinaryExpression(node) &&
      node.operatorToken.kind === ts.SyntaxKind.EqualsToken &&
      ts.isElementAccessExpression(node.left) &&
      this.arrayOf(node.left.expression) !== ""
    );
  }

  private targetOf(node: ts.Node): ts.Node | undefined {
    if (ts.isCallExpression(node)) {
      return this.checker.getResolvedSignature(node)?.declaration;
    }
    if (ts.isNewExpression(node)) return this.checker.getResolvedSignature(node)?.declaration;
    if (!ts.isPropertyAccessExpression(node)) return undefined;
    const declaration = this.checker.getSymbolAtLocation(node.name)?.declarations?.[0];
    if (declaration === undefined) return undefined;
    return ts.isGetAccessorDeclaration(declaration) ? declaration : undefined;
  }

  /** A method of an interface is as its implementations are, and they are as it is. */
  private paintInterfaces(files: readonly ts.SourceFile[]): void {
    const visit = (node: ts.Node): void => {
      if (ts.isClassDeclaration(node)) {
        for (const clause of node.heritageClauses ?? []) {
          for (const implemented of clause.types) this.paintMembers(node, implemented);
        }
      }
      ts.forEachChild(node, visit);
    };
    files.forEach(visit);
  }

  private paintMembers(
    declared: ts.ClassDeclaration,
    implemented: ts.ExpressionWithTypeArguments,
  ): void {
    const type = this.checker.getTypeAtLocation(implemented);
    for (const member of declared.members) {
      const name = member.name === undefined ? "" : member.name.getText();
      const signature = type.getProperty(name)?.declarations?.[0];
      if (signature === undefined || !ts.isMethodDeclaration(member)) continue;
      if (this.painted.has(member)) this.painted.add(signature);
      if (this.painted.has(signature)) this.painted.add(member);
    }
  }
}

/** Writes the source of one module anew. */
class Rewriter {
  private readonly file: ts.SourceFile;
  private readonly painter: Painter;
  private readonly places: string[];
  /** In the order of a walk: of what is put at one position, the outer comes first. */
  private readonly changes: { start: number; end: number; text: string }[] = [];

  constructor(file: ts.SourceFile, painter: Painter, places: string[]) {
    this.file = file;
    this.painter = painter;
    this.places = places;
  }

  rewrite(): string {
    this.visit(this.file);
    const { text } = this.file;
    let result = "";
    let position = 0;
    for (const change of this.changes.toSorted((one, other) => one.start - other.start)) {
      result += text.slice(position, change.start) + change.text;
      position = change.end;
    }
    return result + text.slice(position);
  }

  private insert(position: number, text: string): void {
    this.changes.push({ start: position, end: position, text });
  }

  private replace(start: number, end: number, text: string): void {
    this.changes.push({ start, end, text });
  }

  private placeOf(node: ts.Node): number {
    const { line } = this.file.getLineAndCharacterOfPosition(node.getStart());
    this.places.push(`${path.relative(folder, this.file.fileName)}:${line + 1}`);
    return this.places.length - 1;
  }

  private visit(node: ts.Node): void {
    if (ts.isTypeNode(node) || (isCallable(node) && isAsync(node))) return;
    if (this.painter.isPainted(node)) this.visitPainted(node);
    else if (isAtomic(node)) this.visitAtomic(node);
    else if (this.painter.isStandIn(node)) this.wrap(node, "(yield* ", ")");
    else if (this.painter.isCopy(node)) this.visitCopy(node);
    else if (isHandlerCall(node)) this.wrap(node, "(yield* $.callBack(", "))");
    else if (ts.isCallExpression(node)) this.visitCall(node);
    else if (ts.isNewExpression(node) && this.painter.stops(node)) this.visitNew(node);
    else if (ts.isPropertyAccessExpression(node) && this.painter.stops(node)) {
      this.wrap(node, "(yield* ", "())");
    } else if (this.painter.isStore(node)) this.visitStore(node);
    else if (ts.isElementAccessExpression(node) && this.painter.arrayOf(node.expression) !== "") {
      this.insert(node.getStart(), "$.get(");
      this.visit(node.expression);
      this.bracket(node, ", ", ")");
    } else this.visitChildren(node);
  }

  private visitChildren(node: ts.Node): void {
    ts.forEachChild(node, (child) => {
      this.visit(child);
    });
  }

  private wrap(node: ts.Node, before: string, after: string): void {
    this.insert(node.getStart(), before);
    this.visitChildren(node);
    this.insert(node.getEnd(), after);
  }

  private visitPainted(node: ts.Node): void {
    if (ts.isArrowFunction(node)) {
      this.visitArrow(node);
      return;
    }
    if (ts.isConstructorDeclaration(node) && node.body !== undefined) {
      const start = node.getStart();
      this.replace(start, start + "constructor".length, "*$open");
      this.visitChildren(node);
      this.insert(node.body.getEnd() - 1, "return this;");
      return;
    }
    const name = (node as ts.FunctionDeclaration).name as ts.Node | undefined;
    if (name === undefined) throw this.refusal(node);
    if (ts.isGetAccessorDeclaration(node)) {
      this.replace(this.keywordBefore(name), name.getStart(), "*");
    } else this.insert(name.getStart(), "*");
    this.visitChildren(node);
  }

  /** Where the `get` before a name begins. */
  private keywordBefore(name: ts.Node): number {
    return this.file.text.lastIndexOf("get", name.getStart());
  }

  private visitArrow(node: ts.ArrowFunction): void {
    if (ts.isBlock(node.body) || /\bthis\b/.test(node.getText())) throw this.refusal(node);
    this.insert(node.getStart(), "function* ");
    const arrow = node.equalsGreaterThanToken;
    this.replace(arrow.getStart(), arrow.getEnd(), "{ return (");
    this.visit(node.body);
    this.insert(node.getEnd(), "); }");
  }

  private visitAtomic(node: ts.CallExpression): void {
    const callee = node.expression as ts.PropertyAccessExpression;
    const start = node.getStart();
    this.insert(start, `(yield ${this.placeOf(node)}, `);
    this.replace(start, callee.expression.getEnd(), "$");
    node.arguments.forEach((argument) => {
      this.visit(argument);
    });
    this.insert(node.getEnd(), ")");
    if (callee.name.text === "wait") this.insert(node.getEnd(), ", (yield -1)");
  }

  private visitCopy(node: ts.CallExpression): void {
    const callee = node.expression as ts.PropertyAccessExpression;
    const [first] = node.arguments;
    if (first === undefined) throw this.refusal(node);
    this.insert(node.getStart(), `(yield* $.copy(${this.placeOf(node)}, `);
    this.visit(callee.expression);
    this.replace(callee.expression.getEnd(), first.getStart(), ", ");
    node.arguments.forEach((argument) => {
      this.visit(argument);
    });
    this.insert(node.getEnd(), ")");
  }

  private visitCall(node: ts.CallExpression): void {
    const [callback] = node.arguments;
    if (callback !== undefined && this.painter.isPainted(callback)) {
      this.visitCallOfEach(node, callback);
    } else if (this.painter.stops(node)) this.wrap(node, "(yield* ", ")");
    else this.visitChildren(node);
  }

  /** `readers.every((reader) => …)` with a callback that stops. */
  private visitCallOfEach(node: ts.CallExpression, callback: ts.Node): void {
    const callee = node.expression;
    if (!ts.isPropertyAccessExpression(callee)) throw this.refusal(node);
    if (!["every", "some", "reduce"].includes(callee.name.text)) throw this.refusal(node);
    this.insert(node.getStart(), `(yield* $.${callee.name.text}(`);
    this.visit(callee.expression);
    this.replace(callee.expression.getEnd(), callback.getStart(), ", ");
    node.arguments.forEach((argument) => {
      this.visit(argument);
    });
    this.insert(node.getEnd(), ")");
  }

  private visitNew(node: ts.NewExpression): void {
    this.insert(node.getStart(), "(yield* ");
    this.insert(node.expression.getEnd(), "().$open");
    node.arguments?.forEach((argument) => {
      this.visit(argument);
    });
    this.insert(node.getEnd(), ")");
  }

  private visitStore(node: ts.BinaryExpression & { left: ts.ElementAccessExpression }): void {
    const { left, right } = node;
    const before = this.painter.isFine ? `(yield ${this.placeOf(node)}, ` : "(";
    this.insert(node.getStart(), `${before}$.set(`);
    this.visit(left.expression);
    this.bracket(left, ", ", "");
    this.replace(left.getEnd(), right.getStart(), ", ");
    this.visit(right);
    this.insert(node.getEnd(), "))");
  }

  private bracket(node: ts.ElementAccessExpression, open: string, close: string): void {
    const index = node.argumentExpression;
    this.replace(node.expression.getEnd(), index.getStart(), open);
    this.visit(index);
    this.replace(index.getEnd(), node.getEnd(), close);
  }

  private refusal(node: ts.Node): Error {
    const { line } = this.file.getLineAndCharacterOfPosition(node.getStart());
    return new Error(`cannot transform ${this.file.fileName}:${line + 1}: ${node.getText()}`);
  }
}

function isCallable(node: ts.Node): node is Callable {
  return (
    ts.isFunctionDeclaration(node) ||
    ts.isMethodDeclaration(node) ||
    ts.isGetAccessorDeclaration(node) ||
    ts.isConstructorDeclaration(node) ||
    ts.isArrowFunction(node)
  );
}

/** What is asynchronous is left as it is: its blocking twin takes the same steps. */
function isAsync(node: ts.Node): boolean {
  if (!ts.canHaveModifiers(node)) return false;
  return ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.AsyncKeyword) === true;
}

function isAtomic(node: ts.Node): node is ts.CallExpression {
  return (
    ts.isCallExpression(node) &&
    ts.isPropertyAccessExpression(node.expression) &&
    node.expression.expression.getText() === "Atomics" &&
    operations.has(node.expression.name.text)
  );
}

/** Handlers of messages stop too: what they read may be written meanwhile. */
function isHandlerCall(node: ts.Node): boolean {
  return ts.isCallExpression(node) && node.expression.getText() === "handler";
}
