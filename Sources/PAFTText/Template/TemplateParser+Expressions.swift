// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase

/// Expressions, from the loosest to the tightest: `a if b else c`, or, and, not, comparison,
/// `+ -`, `~`, `* / // %`, `**`, sign, call and member, filter and test. As in Jinja `~` binds
/// tighter than `+`.
extension TemplateParser {
  mutating func tupleOrExpression(conditional: Bool = true) throws(Fault) -> TemplateNode {
    let line = line
    var items = [try conditional ? expression() : disjunction()]
    var isTuple = false
    while skip(.sign(",")) {
      isTuple = true
      if endsTuple { break }
      items.append(try conditional ? expression() : disjunction())
    }
    return isTuple ? try node(.list(items, isTuple: true), items, line) : items[0]
  }

  private var endsTuple: Bool {
    switch token {
    case .endBlock, .endPrint, .sign(")"), .end: true
    default: false
    }
  }

  mutating func expression() throws(Fault) -> TemplateNode {
    try nested { (parser) throws(Fault) in
      var value = try parser.disjunction()
      while parser.isName("if") {
        let line = parser.line
        parser.next()
        let condition = try parser.disjunction()
        let otherwise = parser.skip(.name("else")) ? try parser.expression() : nil
        value = try parser.node(
          .conditional(value, condition: condition, otherwise: otherwise),
          [value, condition] + (otherwise.map { [$0] } ?? []), line)
      }
      return value
    }
  }

  // MARK: - Operators

  mutating func disjunction() throws(Fault) -> TemplateNode {
    var left = try conjunction()
    while isName("or") {
      let line = line
      next()
      let right = try conjunction()
      left = try node(.or(left, right), [left, right], line)
    }
    return left
  }

  private mutating func conjunction() throws(Fault) -> TemplateNode {
    var left = try negation()
    while isName("and") {
      let line = line
      next()
      let right = try negation()
      left = try node(.and(left, right), [left, right], line)
    }
    return left
  }

  private mutating func negation() throws(Fault) -> TemplateNode {
    var lines: [Int] = []
    while isName("not") {
      lines.append(line)
      next()
    }
    var value = try comparison()
    for line in lines.reversed() { value = try node(.not(value), [value], line) }
    return value
  }

  private mutating func comparison() throws(Fault) -> TemplateNode {
    let line = line
    let first = try sum()
    var others: [(TemplateExpression.Comparison, TemplateNode)] = []
    while true {
      var sign: TemplateExpression.Comparison?
      switch token {
      case .sign(let text):
        sign = TemplateExpression.Comparison(rawValue: text)
        if sign != nil { next() }
      case .name("in"):
        sign = .isIn
        next()
      case .name("not") where peek() == .name("in"):
        sign = .isNotIn
        next()
        next()
      default: break
      }
      guard let sign else { break }
      others.append((sign, try sum()))
    }
    if others.isEmpty { return first }
    return try node(.comparison(first, others), [first] + others.map(\.1), line)
  }

  private mutating func sum() throws(Fault) -> TemplateNode {
    try arithmetic(["+", "-"]) { (parser) throws(Fault) in try parser.concatenation() }
  }

  private mutating func concatenation() throws(Fault) -> TemplateNode {
    let line = line
    var parts = [try product()]
    while skip(.sign("~")) { parts.append(try product()) }
    return parts.count == 1 ? parts[0] : try node(.concatenation(parts), parts, line)
  }

  private mutating func product() throws(Fault) -> TemplateNode {
    try arithmetic(["*", "/", "//", "%"]) { (parser) throws(Fault) in
      try parser.arithmetic(["**"]) { (parser) throws(Fault) in try parser.signed(filters: true) }
    }
  }

  private mutating func arithmetic(
    _ signs: [String], _ operand: (inout Self) throws(Fault) -> TemplateNode
  ) throws(Fault) -> TemplateNode {
    var left = try operand(&self)
    while case .sign(let text) = token, signs.contains(text),
      let sign = TemplateExpression.Arithmetic(rawValue: text)
    {
      let line = line
      next()
      let right = try operand(&self)
      if sign == .add {
        var terms = [left]
        if case .sum(let earlier) = left.expression { terms = earlier }
        terms.append(right)
        left = try node(.sum(terms), [left, right], line)
      } else {
        left = try node(.arithmetic(sign, left, right), [left, right], line)
      }
    }
    return left
  }

  private mutating func signed(filters: Bool) throws(Fault) -> TemplateNode {
    let line = line
    var value: TemplateNode
    if isSign("-") || isSign("+") {
      let isNegative = isSign("-")
      next()
      let inner = try nested { (parser) throws(Fault) in try parser.signed(filters: false) }
      value = try node(isNegative ? .negative(inner) : .positive(inner), [inner], line)
    } else {
      value = try postfix(of: try primary())
    }
    return filters ? try postfixFilters(of: value) : value
  }

  // MARK: - What follows a value

  private mutating func postfix(of start: TemplateNode) throws(Fault) -> TemplateNode {
    var value = start
    while case .sign(let sign) = token {
      let line = line
      switch sign {
      case ".":
        next()
        if case .integer(let index) = token {
          next()
          let key = try node(.integer(index), [], line)
          value = try node(.item(value, key), [value, key], line)
        } else {
          value = try node(
            .attribute(value, TemplateName(try identifier("the name of an attribute"))), [value],
            line)
        }
      case "[":
        next()
        value = try subscripted(value, line)
        try expect(.sign("]"))
      case "(": value = try call(value)
      default: return value
      }
    }
    return value
  }

  private mutating func call(_ function: TemplateNode) throws(Fault) -> TemplateNode {
    let line = line
    let arguments = try arguments()
    return try node(
      .call(function, arguments), [function] + Self.nodes(arguments), line)
  }

  private mutating func subscripted(
    _ value: TemplateNode, _ line: Int
  ) throws(Fault) -> TemplateNode {
    var bounds: [TemplateNode?] = []
    var colons = 0
    var current: TemplateNode?
    while !isSign("]") {
      if skip(.sign(":")) {
        colons += 1
        guard colons <= 2 else { throw unexpected("']'") }
        bounds.append(current)
        current = nil
      } else if current == nil {
        current = try expression()
      } else {
        throw unexpected("']'")
      }
    }
    guard colons > 0 else {
      guard let key = current else { throw unexpected("an index") }
      return try node(.item(value, key), [value, key], line)
    }
    bounds.append(current)
    let step = bounds.count > 2 ? bounds[2] : nil
    return try node(
      .slice(value, from: bounds[0], to: bounds[1], step: step),
      [value] + bounds.compactMap { $0 }, line)
  }

  /// Filters, tests, and calls of their results.
  mutating func postfixFilters(of start: TemplateNode?) throws(Fault) -> TemplateNode {
    var value = start
    while true {
      let line = line
      if isSign("|") || (start == nil && value == nil) {
        // Behind `{% filter` the first filter has no '|'.
        next()
        let name = try dottedName("the name of a filter")
        let arguments = isSign("(") ? try arguments() : TemplateArguments()
        value = try node(
          .filter(value, name, arguments), (value.map { [$0] } ?? []) + Self.nodes(arguments), line)
      } else if let operand = value, isName("is") {
        next()
        value = try test(operand, line)
      } else if let function = value, isSign("("), start != nil {
        value = try call(function)
      } else {
        return value!
      }
    }
  }

  private mutating func test(_ value: TemplateNode, _ line: Int) throws(Fault) -> TemplateNode {
    let isNegated = skip(.name("not"))
    let name = try dottedName("the name of a test")
    var arguments = TemplateArguments()
    switch token {
    case .sign("("): arguments = try self.arguments()
    case .name("else"), .name("or"), .name("and"), .name("if"), .name("in"), .name("not"): break
    case .name("is"): throw fault("tests cannot be chained with 'is'")
    case .name, .string, .integer, .float, .sign("["), .sign("{"):
      arguments.positional = [try postfix(of: try primary())]
    default: break
    }
    let test = try node(
      .test(value, name, arguments), [value] + Self.nodes(arguments), line)
    return isNegated ? try node(.not(test), [test], line) : test
  }

  private mutating func dottedName(_ expected: String) throws(Fault) -> String {
    var name = try identifier(expected)
    while skip(.sign(".")) { name += "." + (try identifier(expected)) }
    return name
  }

  private mutating func arguments() throws(Fault) -> TemplateArguments {
    try nested { (parser) throws(Fault) in
      var arguments = TemplateArguments()
      try parser.expect(.sign("("))
      var isFirst = true
      while !parser.isSign(")") {
        if !isFirst {
          try parser.expect(.sign(","))
          if parser.isSign(")") { break }
        }
        isFirst = false
        if parser.isSign("*") || parser.isSign("**") {
          throw parser.fault("unpacked arguments are not supported")
        }
        if case .name(let name) = parser.token, parser.peek() == .sign("=") {
          parser.next()
          parser.next()
          arguments.keywords.append((name, try parser.expression()))
        } else {
          guard arguments.keywords.isEmpty else {
            throw parser.fault("a positional argument after one with a name")
          }
          arguments.positional.append(try parser.expression())
        }
      }
      parser.next()
      return arguments
    }
  }

  // MARK: - Values

  private mutating func primary() throws(Fault) -> TemplateNode {
    let line = line
    switch token {
    case .name(let name):
      next()
      switch name {
      case "true", "True": return try node(.bool(true), [], line)
      case "false", "False": return try node(.bool(false), [], line)
      case "none", "None": return try node(.none, [], line)
      default: return try node(.name(id(name)), [], line)
      }
    case .string(var text):
      next()
      while case .string(let more) = token {
        text.units += more.units
        next()
      }
      return try node(.text(text), [], line)
    case .integer(let value):
      next()
      return try node(.integer(value), [], line)
    case .float(let value):
      next()
      return try node(.float(value), [], line)
    case .sign("("):
      next()
      if skip(.sign(")")) { return try node(.list([], isTuple: true), [], line) }
      let value = try tupleOrExpression()
      try expect(.sign(")"))
      return value
    case .sign("["): return try list(line)
    case .sign("{"): return try dictionary(line)
    default: throw unexpected("a value")
    }
  }

  private mutating func list(_ line: Int) throws(Fault) -> TemplateNode {
    var items: [TemplateNode] = []
    next()
    while !isSign("]") {
      if !items.isEmpty {
        try expect(.sign(","))
        if isSign("]") { break }
      }
      items.append(try expression())
    }
    next()
    return try node(.list(items, isTuple: false), items, line)
  }

  private mutating func dictionary(_ line: Int) throws(Fault) -> TemplateNode {
    var items: [(key: TemplateNode, value: TemplateNode)] = []
    next()
    while !isSign("}") {
      if !items.isEmpty {
        try expect(.sign(","))
        if isSign("}") { break }
      }
      let key = try expression()
      try expect(.sign(":"))
      items.append((key, try expression()))
    }
    next()
    return try node(.dict(items), items.flatMap { [$0.key, $0.value] }, line)
  }

  // MARK: - Nodes

  private static func nodes(_ arguments: TemplateArguments) -> [TemplateNode] {
    arguments.positional + arguments.keywords.map(\.value)
  }

  private func node(
    _ expression: TemplateExpression, _ children: [TemplateNode], _ line: Int
  ) throws(Fault) -> TemplateNode {
    let depth = children.reduce(0) { max($0, $1.depth) } + 1
    guard depth <= Self.depthLimit else {
      throw fault("an expression nested more than \(Self.depthLimit) levels deep")
    }
    return TemplateNode(line: line, depth: depth, expression: expression)
  }
}
