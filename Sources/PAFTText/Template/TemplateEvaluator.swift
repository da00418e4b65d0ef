// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
import PAFTFormats

/// Bounds on what a template may do; honest ones stay a thousand times below.
package struct TemplateLimits: Sendable {
  /// Expressions and statements evaluated, and values looked at.
  package var steps = 1 << 22
  /// Characters written, also to intermediate strings.
  package var characters = 1 << 26
  /// Expressions, statements and macros within each other.
  package var depth = 300
  /// Lists within lists.
  package var valueDepth = 100

  package init() {}
}

/// Runs a template's tree once. What it may use up is bounded, so that no template, however hostile,
/// takes the process with it.
final class TemplateEvaluator {
  let program: TemplateProgram
  let limits: TemplateLimits
  let clock: TemplateClock?
  private(set) var line = 0
  private var steps = 0
  private var characters = 0
  private var depth = 0
  private var macros: [TemplateMacro] = []
  private var namespaces: [TemplateNamespace] = []
  private(set) var out: [UInt32] = []
  private var scope = TemplateScope(nil)

  init(_ program: TemplateProgram, limits: TemplateLimits, clock: TemplateClock?) {
    self.program = program
    self.limits = limits
    self.clock = clock
  }

  deinit {
    // Macros and their scopes, namespaces and their members may hold each other.
    for macro in macros { macro.scope = nil }
    for namespace in namespaces { namespace.members = TemplateDict() }
  }

  func run(_ variables: [(String, TemplateValue)]) throws(Fault) -> TemplateText {
    for (name, value) in variables {
      if let id = program.ids[name] { scope.set(id, value) }
    }
    scope = TemplateScope(scope)
    _ = try execute(program.body)
    return TemplateText(units: out)
  }

  // MARK: - Bounds

  func fault(_ words: String, hint: String? = nil) -> Fault {
    Fault(.data, "\(program.file) line \(line): \(words)", hint: hint)
  }

  @inline(__always)
  func spend(steps count: Int = 1) throws(Fault) {
    steps += count
    if steps > limits.steps { throw tooManySteps() }
  }

  @inline(never)
  private func tooManySteps() -> Fault {
    fault("the template takes more than \(limits.steps) steps", hint: "does it loop?")
  }

  func spend(characters count: Int) throws(Fault) {
    characters += count
    guard characters <= limits.characters else {
      throw fault("the template writes more than \(limits.characters) characters")
    }
  }

  @inline(__always)
  private func deeper<T>(_ body: () throws(Fault) -> T) throws(Fault) -> T {
    depth += 1
    defer { depth -= 1 }
    if depth > limits.depth { throw tooDeep() }
    return try body()
  }

  @inline(never)
  private func tooDeep() -> Fault {
    fault("the template nests more than \(limits.depth) levels deep")
  }

  /// A list, if it is not too deep.
  func list(_ items: [TemplateValue], isTuple: Bool = false) throws(Fault) -> TemplateValue {
    try spend(steps: items.count)
    let list = TemplateList(items, isTuple: isTuple)
    try check(depth: list.depth)
    return .list(list)
  }

  func check(depth: Int) throws(Fault) {
    guard depth <= limits.valueDepth else {
      throw fault("a value nested more than \(limits.valueDepth) levels deep")
    }
  }

  func text(_ units: [UInt32]) throws(Fault) -> TemplateValue {
    try spend(characters: units.count)
    return .text(TemplateText(units: units))
  }

  func makeNamespace() -> TemplateNamespace {
    let namespace = TemplateNamespace()
    namespaces.append(namespace)
    return namespace
  }

  // MARK: - Statements

  private enum Flow {
    case goesOn
    case leavesLoop
    case nextTurn
  }

  private func execute(_ statements: [TemplateStatement]) throws(Fault) -> Flow {
    try deeper { () throws(Fault) in
      for statement in statements {
        line = statement.line
        try spend()
        let flow = try execute(statement.kind)
        if flow != .goesOn { return flow }
      }
      return .goesOn
    }
  }

  private func execute(_ kind: TemplateStatement.Kind) throws(Fault) -> Flow {
    switch kind {
    case .text(let text): try write(text)
    case .print(let node):
      if case .sum(let terms) = node.expression {
        line = node.line
        try writeSum(terms)
      } else {
        try write(try string(of: try evaluate(node)))
      }
    case .branches(let branches, let otherwise):
      for branch in branches where try evaluate(branch.condition).isTrue {
        return try execute(branch.body)
      }
      return try execute(otherwise)
    case .loop(let loop): try execute(loop)
    case .set(let target, let node): try assign(try evaluate(node), to: target)
    case .setBlock(let target, let filters, let body):
      let text = try captured { () throws(Fault) in _ = try execute(body) }
      try assign(try filtered(.text(text), filters), to: target)
    case .macro(let name, let definition): scope.set(name, .macro(macro(definition)))
    case .call(let call, let caller): try executeCall(call, caller)
    case .filter(let filters, let body):
      let text = try captured { () throws(Fault) in _ = try execute(body) }
      try write(try string(of: try filtered(.text(text), filters)))
    case .scope(let variables, let body):
      let outer = scope
      let inner = TemplateScope(outer)
      for (target, node) in variables {
        let value = try evaluate(node)
        if case .name(let id) = target { inner.set(id, value) }
      }
      scope = inner
      defer { scope = outer }
      return try execute(body)
    case .generation(let body):
      let text = try captured { () throws(Fault) in _ = try execute(body) }
      try write(TemplateText(units: text.units.map { $0 | TemplateText.generated }))
    case .leaveLoop: return .leavesLoop
    case .nextTurn: return .nextTurn
    }
    return .goesOn
  }

  func write(_ text: TemplateText) throws(Fault) {
    try spend(characters: text.count)
    out.append(contentsOf: text.units)
  }

  private func captured(_ body: () throws(Fault) -> Void) throws(Fault) -> TemplateText {
    let outer = out
    out = []
    defer { out = outer }
    try body()
    return TemplateText(units: out)
  }

  private func execute(_ definition: LoopDefinition) throws(Fault) {
    let outer = scope
    defer { scope = outer }
    var items = try self.items(of: try evaluate(definition.items))
    if let condition = definition.condition {
      var kept: [TemplateValue] = []
      for item in items {
        scope = TemplateScope(outer)
        try assign(item, to: definition.target)
        if try evaluate(condition).isTrue { kept.append(item) }
      }
      items = kept
      scope = outer
    }
    if items.isEmpty {
      scope = TemplateScope(outer)
      _ = try execute(definition.otherwise)
      return
    }
    let list = TemplateList(items)
    try spend(steps: items.count)
    try check(depth: list.depth)
    let loop = TemplateLoop(list)
    for (index, item) in items.enumerated() {
      try spend()
      loop.index = index
      scope = TemplateScope(outer)
      if let id = program.loopName { scope.set(id, .loop(loop)) }
      try assign(item, to: definition.target)
      if case .leavesLoop = try execute(definition.body) { return }
    }
  }

  private func assign(_ value: TemplateValue, to target: TemplateTarget) throws(Fault) {
    switch target {
    case .name(let id): scope.set(id, value)
    case .member(let id, let attribute):
      guard case .namespace(let namespace)? = scope.find(id) else {
        throw fault(
          "found \(scope.find(id)?.kind ?? "nothing") as \(quoted(program.names[id])), expected a "
            + "namespace to assign '.\(attribute)' to")
      }
      try set(TemplateText(attribute), value, in: namespace)
    case .tuple(let targets):
      let items = try items(of: value)
      guard items.count == targets.count else {
        throw fault("found \(items.count) values, expected \(targets.count) to assign")
      }
      for (target, item) in zip(targets, items) { try assign(item, to: target) }
    }
  }

  func set(
    _ key: TemplateText, _ value: TemplateValue, in namespace: TemplateNamespace
  ) throws(Fault) {
    namespace.members.set(key, value)
  }

  // MARK: - Calls

  private func macro(_ definition: MacroDefinition) -> TemplateMacro {
    let macro = TemplateMacro(definition, scope)
    macros.append(macro)
    return macro
  }

  private func executeCall(_ call: TemplateNode, _ caller: MacroDefinition) throws(Fault) {
    guard case .call(let function, let arguments) = call.expression else { return }
    let callee = try evaluate(function)
    let values = try evaluate(arguments)
    let result = try self.call(callee, values, caller: macro(caller))
    try write(try string(of: result))
  }

  func evaluate(_ arguments: TemplateArguments) throws(Fault) -> CallArguments {
    var result = CallArguments()
    for node in arguments.positional { result.positional.append(try evaluate(node)) }
    for (name, node) in arguments.keywords {
      result.keywords.append((name, try evaluate(node)))
    }
    return result
  }

  func call(
    _ callee: TemplateValue, _ arguments: CallArguments, caller: TemplateMacro? = nil
  ) throws(Fault) -> TemplateValue {
    switch callee {
    case .macro(let macro):
      return try deeper { () throws(Fault) in try call(macro, arguments, caller: caller) }
    case .function(let function): return try call(function, arguments)
    case .method(let receiver, let name): return try call(name, of: receiver, arguments)
    default: throw fault("found \(callee.kind), expected something to call")
    }
  }

  private func call(
    _ macro: TemplateMacro, _ arguments: CallArguments, caller: TemplateMacro?
  ) throws(Fault) -> TemplateValue {
    let definition = macro.definition
    let inner = TemplateScope(macro.scope)
    guard arguments.positional.count <= definition.parameters.count else {
      throw fault(
        "macro \(quoted(definition.name)) gets \(arguments.positional.count) arguments, expected at "
          + "most \(definition.parameters.count)")
    }
    if let (name, _) = arguments.keywords.first(where: { keyword in
      !definition.parameters.contains { $0.name == keyword.0 }
        && !(keyword.0 == "caller" && caller == nil)
    }) {
      throw fault("macro \(quoted(definition.name)) has no parameter \(quoted(name, limit: 40))")
    }
    let outer = scope
    defer { scope = outer }
    scope = inner
    for (index, parameter) in definition.parameters.enumerated() {
      let given =
        index < arguments.positional.count
        ? arguments.positional[index]
        : arguments.keywords.first { $0.name == parameter.name }?.value
      if let given {
        inner.set(parameter.id, given)
      } else if let node = parameter.value {
        inner.set(parameter.id, try evaluate(node))
      } else {
        inner.set(
          parameter.id, .undefined("parameter \(quoted(parameter.name)) was not provided"))
      }
    }
    if let caller, let id = program.callerName { inner.set(id, .macro(caller)) }
    return .text(try captured { () throws(Fault) in _ = try execute(definition.body) })
  }

  // MARK: - Names

  func variable(_ id: Int) -> TemplateValue {
    if let value = scope.find(id) { return value }
    let name = program.names[id]
    if let function = TemplateFunction(rawValue: name), function != .strftimeNow || clock != nil {
      return .function(function)
    }
    return .undefined("'\(name)' is undefined")
  }

  /// One level deeper; `TemplateEvaluator+Expressions.swift` has the cases.
  func evaluate(_ node: TemplateNode) throws(Fault) -> TemplateValue {
    try deeper { () throws(Fault) in
      try spend()
      line = node.line
      return try value(of: node.expression)
    }
  }
}

/// Evaluated arguments of a call, filter or test.
struct CallArguments {
  var positional: [TemplateValue] = []
  var keywords: [(name: String, value: TemplateValue)] = []

  /// The argument at a place or of a name.
  func value(_ index: Int, _ name: String) -> TemplateValue? {
    index < positional.count
      ? positional[index] : keywords.first { $0.name == name }?.value
  }
}
