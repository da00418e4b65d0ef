// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import PAFTBase

extension TemplateEvaluator {
  func value(of expression: TemplateExpression) throws(Fault) -> TemplateValue {
    switch expression {
    case .none: return .none
    case .bool(let value): return .bool(value)
    case .integer(let value): return .integer(value)
    case .float(let value): return .float(value)
    case .text(let text): return .text(text)
    case .name(let id): return variable(id)
    case .list(let nodes, let isTuple): return try list(nodes, isTuple)
    case .dict(let items): return try dictionary(items)
    case .attribute(let node, let name):
      let value = try evaluate(node)
      // Mostly a member of a message, by a name that no method has.
      if case .dict(let dict) = value, !name.isMethod {
        try spend(steps: dict.count / 8)
        if let member = dict[name.text] { return member }
      }
      return try attribute(name.string, of: value)
    case .item(let node, let key):
      // Mostly a member of a message, by a name that stands in the template.
      guard case .text(let name) = key.expression else {
        return try item(try evaluate(key), of: try evaluate(node))
      }
      let value = try evaluate(node)
      if case .dict(let dict) = value {
        try spend(steps: 1 + dict.count / 8)
        if let member = dict[name] { return member }
      }
      return try item(.text(name), of: value)
    case .slice(let node, let from, let to, let step):
      return try slice(try evaluate(node), try bound(from), try bound(to), try bound(step))
    case .call(let function, let arguments):
      let callee = try evaluate(function)
      return try call(callee, try evaluate(arguments))
    case .filter(let node, let name, let arguments):
      guard let node else { throw fault("a filter without a value") }
      let value = try evaluate(node)
      return try apply(name, to: value, try evaluate(arguments))
    case .test(let node, let name, let arguments):
      let value = try evaluate(node)
      return .bool(try test(name, value, try evaluate(arguments)))
    case .not(let node): return .bool(try !evaluate(node).isTrue)
    case .and(let a, let b):
      let left = try evaluate(a)
      return left.isTrue ? try evaluate(b) : left
    case .or(let a, let b):
      let left = try evaluate(a)
      return left.isTrue ? left : try evaluate(b)
    case .negative(let node): return try negated(try evaluate(node))
    case .positive(let node):
      let value = try evaluate(node)
      guard value.asDouble != nil else { throw wrong(value, "a number behind '+'") }
      return value.asInteger.map { .integer($0) } ?? value
    case .sum(let terms): return try sum(terms)
    case .arithmetic(let sign, let a, let b):
      let left = try evaluate(a)
      return try arithmetic(sign, left, try evaluate(b))
    case .concatenation(let nodes):
      var units: [UInt32] = []
      for node in nodes { units += try string(of: try evaluate(node)).units }
      return try text(units)
    case .comparison(let first, let others): return .bool(try comparison(first, others))
    case .conditional(let node, let condition, let otherwise):
      if try evaluate(condition).isTrue { return try evaluate(node) }
      guard let otherwise else { return .undefined("the condition is false and has no else") }
      return try evaluate(otherwise)
    }
  }

  func wrong(_ value: TemplateValue, _ expected: String) -> Fault {
    fault("found \(value.kind), expected \(expected)")
  }

  private func list(_ nodes: [TemplateNode], _ isTuple: Bool) throws(Fault) -> TemplateValue {
    var items: [TemplateValue] = []
    for node in nodes { items.append(try evaluate(node)) }
    return try list(items, isTuple: isTuple)
  }

  private func dictionary(
    _ items: [(key: TemplateNode, value: TemplateNode)]
  ) throws(Fault) -> TemplateValue {
    var dict = TemplateDict()
    for (key, value) in items {
      let key = try evaluate(key)
      dict.set(key, at: try position(of: key, in: dict), try evaluate(value))
    }
    try check(depth: dict.depth)
    return .dict(dict)
  }

  /// A chain of filters over the text of a block.
  func filtered(_ value: TemplateValue, _ filters: TemplateNode?) throws(Fault) -> TemplateValue {
    guard let filters else { return value }
    guard case .filter(let inner, let name, let arguments) = filters.expression else {
      throw fault("expected filters alone")
    }
    let operand = try filtered(value, inner)
    return try apply(name, to: operand, try evaluate(arguments))
  }

  // MARK: - Members

  func position(of key: TemplateValue, in dict: TemplateDict) throws(Fault) -> Int? {
    try spend(steps: 1 + dict.count / 8)
    if let text = key.asText { return dict.position(text) }
    switch key {
    case .list(let list) where !list.isTuple: throw wrong(key, "a key that is not a list")
    case .dict: throw wrong(key, "a key that is not a dictionary")
    default: break
    }
    for (index, own) in dict.keys.enumerated() where try equal(own, key) { return index }
    return nil
  }

  func attribute(_ name: String, of value: TemplateValue) throws(Fault) -> TemplateValue {
    switch value {
    case .undefined(let words): throw fault(words)
    case .namespace(let namespace):
      if let member = namespace.members[name] { return member }
    case .loop(let loop):
      if let member = loop.attribute(name) { return member }
    case .macro(let macro) where name == "name": return .string(macro.definition.name)
    default:
      if Self.hasMethod(name, value) { return .method(value, name) }
      if case .dict(let dict) = value {
        try spend(steps: dict.count / 8)
        if let member = dict[name] { return member }
      }
    }
    return .undefined("'\(value.pythonType) object' has no attribute '\(name)'")
  }

  func item(_ key: TemplateValue, of value: TemplateValue) throws(Fault) -> TemplateValue {
    switch value {
    case .undefined(let words): throw fault(words)
    case .dict(let dict):
      if let at = try position(of: key, in: dict) { return dict.values[at] }
    case .list(let list):
      if let index = index(key, list.items.count) { return list.items[index] }
    case .text(let text):
      if let index = index(key, text.count) {
        return .text(TemplateText(units: [text.units[index]]))
      }
    default: break
    }
    // As in Jinja, what is no item may be an attribute.
    if let name = key.asText { return try attribute(name.string, of: value) }
    return .undefined("\(value.kind) has no item \(try representation(of: key).string)")
  }

  private func index(_ key: TemplateValue, _ count: Int) -> Int? {
    guard let index = key.asInteger else { return nil }
    let place = index < 0 ? index &+ count : index
    return (0..<count).contains(place) ? place : nil
  }

  private func bound(_ node: TemplateNode?) throws(Fault) -> Int? {
    guard let node else { return nil }
    let value = try evaluate(node)
    if case .none = value { return nil }
    guard let bound = value.asInteger else { throw wrong(value, "an integer as a slice's bound") }
    return bound
  }

  /// Python's slices.
  private func slice(
    _ value: TemplateValue, _ from: Int?, _ to: Int?, _ step: Int?
  ) throws(Fault) -> TemplateValue {
    let step = step ?? 1
    guard step != 0 else { throw fault("a slice's step is 0") }
    func indices(_ count: Int) -> [Int] {
      func place(_ bound: Int, _ least: Int, _ most: Int) -> Int {
        min(most, max(least, bound < 0 ? bound &+ count : bound))
      }
      if step > 0 {
        let start = from.map { place($0, 0, count) } ?? 0
        let end = to.map { place($0, 0, count) } ?? count
        return start < end ? Array(stride(from: start, to: end, by: min(step, count + 1))) : []
      }
      let start = from.map { place($0, -1, count - 1) } ?? count - 1
      let end = to.map { place($0, -1, count - 1) } ?? -1
      return start > end ? Array(stride(from: start, to: end, by: max(step, -count - 1))) : []
    }
    switch value {
    case .list(let list):
      return try self.list(
        indices(list.items.count).map { list.items[$0] }, isTuple: list.isTuple)
    case .text(let text):
      return try self.text(indices(text.count).map { text.units[$0] })
    case .undefined(let words): throw fault(words)
    default: throw wrong(value, "a list or a string to slice")
    }
  }

  // MARK: - Arithmetic

  private func negated(_ value: TemplateValue) throws(Fault) -> TemplateValue {
    if let integer = value.asInteger {
      return .integer(try exact(0.subtractingReportingOverflow(integer)))
    }
    guard case .float(let number) = value else { throw wrong(value, "a number behind '-'") }
    return .float(-number)
  }

  /// A sum of many texts is written into one buffer, not into one for each sign.
  private func sum(_ terms: [TemplateNode]) throws(Fault) -> TemplateValue {
    var value = try evaluate(terms[0])
    var at = 1
    while at < terms.count {
      let next = try evaluate(terms[at])
      at += 1
      guard case .text(let text) = value, case .text(let more) = next else {
        value = try arithmetic(.add, value, next)
        continue
      }
      // All texts from here on go behind each other; the first that is none takes their sum.
      var units: [UInt32] = []
      units.reserveCapacity(text.count + more.count + 64)
      units.append(contentsOf: text.units)
      units.append(contentsOf: more.units)
      try spend(characters: units.count)
      var other: TemplateValue?
      while other == nil, at < terms.count {
        let next = try evaluate(terms[at])
        at += 1
        if case .text(let more) = next {
          units.append(contentsOf: more.units)
          try spend(characters: units.count)
        } else {
          other = next
        }
      }
      value = .text(TemplateText(units: units))
      if let other { value = try arithmetic(.add, value, other) }
    }
    return value
  }

  /// A sum that is printed: texts go where they belong without being joined first.
  func writeSum(_ terms: [TemplateNode]) throws(Fault) {
    for (at, term) in terms.enumerated() {
      let value = try evaluate(term)
      if case .text(let text) = value {
        try write(text)
        continue
      }
      guard at == 0 else {
        // A text and something else have no sum.
        _ = try arithmetic(.add, .text(TemplateText()), value)
        return
      }
      var sum = value
      for term in terms.dropFirst() { sum = try arithmetic(.add, sum, try evaluate(term)) }
      return try write(try string(of: sum))
    }
  }

  private func exact(_ result: (partialValue: Int, overflow: Bool)) throws(Fault) -> Int {
    guard !result.overflow else { throw fault("an integer beyond 64 bits") }
    return result.partialValue
  }

  func arithmetic(
    _ sign: TemplateExpression.Arithmetic, _ a: TemplateValue, _ b: TemplateValue
  ) throws(Fault) -> TemplateValue {
    switch (sign, a, b) {
    case (.add, .text(let x), .text(let y)): return try text(x.units + y.units)
    case (.add, .list(let x), .list(let y)) where x.isTuple == y.isTuple:
      return try list(x.items + y.items, isTuple: x.isTuple)
    case (.multiply, .text(let x), _) where b.asInteger != nil:
      return try text(try repeated(x.units, b.asInteger!))
    case (.multiply, _, .text(let y)) where a.asInteger != nil:
      return try text(try repeated(y.units, a.asInteger!))
    case (.multiply, .list(let x), _) where b.asInteger != nil:
      return try list(try repeated(x.items, b.asInteger!), isTuple: x.isTuple)
    case (.remainder, .text(let format), _):
      let values: [TemplateValue] =
        if case .list(let list) = b, list.isTuple { list.items } else { [b] }
      return try formatted(format, values)
    default: break
    }
    if case .undefined(let words) = a { throw fault(words) }
    if case .undefined(let words) = b { throw fault(words) }
    if let x = a.asInteger, let y = b.asInteger, let result = try integers(sign, x, y) {
      return result
    }
    guard let x = a.asDouble, let y = b.asDouble else {
      throw fault("found \(a.kind) \(sign.rawValue) \(b.kind), which have no such operation")
    }
    return .float(try numbers(sign, x, y))
  }

  private func repeated<T>(_ items: [T], _ times: Int) throws(Fault) -> [T] {
    let times = max(0, times)
    let (count, overflow) = items.count.multipliedReportingOverflow(by: times)
    guard !overflow, count <= limits.characters else {
      throw fault("a repetition of more than \(limits.characters) items")
    }
    try spend(characters: count)
    var result: [T] = []
    result.reserveCapacity(count)
    if !items.isEmpty { for _ in 0..<times { result += items } }
    return result
  }

  /// nil: the result is not an integer.
  private func integers(
    _ sign: TemplateExpression.Arithmetic, _ x: Int, _ y: Int
  ) throws(Fault) -> TemplateValue? {
    switch sign {
    case .add: return .integer(try exact(x.addingReportingOverflow(y)))
    case .subtract: return .integer(try exact(x.subtractingReportingOverflow(y)))
    case .multiply: return .integer(try exact(x.multipliedReportingOverflow(by: y)))
    case .divide: return nil
    case .floorDivide, .remainder:
      guard y != 0 else { throw fault("division by zero") }
      guard y != -1 else {
        return sign == .remainder ? .integer(0) : try negated(.integer(x))
      }
      // Python rounds towards minus infinity; the remainder has the divisor's sign.
      let (quotient, remainder) = x.quotientAndRemainder(dividingBy: y)
      let crosses = remainder != 0 && (remainder < 0) != (y < 0)
      if sign == .remainder { return .integer(crosses ? remainder + y : remainder) }
      return .integer(crosses ? quotient - 1 : quotient)
    case .power:
      if y < 0 { return nil }
      if x == 0 || x == 1 { return .integer(y == 0 ? 1 : x) }
      if x == -1 { return .integer(y % 2 == 0 ? 1 : -1) }
      guard y < 64 else { throw fault("an integer beyond 64 bits") }
      var result = 1
      for _ in 0..<y { result = try exact(result.multipliedReportingOverflow(by: x)) }
      return .integer(result)
    }
  }

  private func numbers(
    _ sign: TemplateExpression.Arithmetic, _ x: Double, _ y: Double
  ) throws(Fault) -> Double {
    switch sign {
    case .add: return x + y
    case .subtract: return x - y
    case .multiply: return x * y
    case .power: return pow(x, y)
    case .divide, .floorDivide, .remainder:
      guard y != 0 else { throw fault("division by zero") }
      if sign == .divide { return x / y }
      let remainder = fmod(x, y)
      let crosses = remainder != 0 && (remainder < 0) != (y < 0)
      if sign == .remainder { return crosses ? remainder + y : remainder }
      return ((x - remainder) / y - (crosses ? 1 : 0)).rounded()
    }
  }

  // MARK: - Comparison

  private func comparison(
    _ first: TemplateNode, _ others: [(TemplateExpression.Comparison, TemplateNode)]
  ) throws(Fault) -> Bool {
    var left = try evaluate(first)
    if others.count == 1 { return try compare(others[0].0, left, try evaluate(others[0].1)) }
    for (sign, node) in others {
      let right = try evaluate(node)
      guard try compare(sign, left, right) else { return false }
      left = right
    }
    return true
  }

  func compare(
    _ sign: TemplateExpression.Comparison, _ a: TemplateValue, _ b: TemplateValue
  ) throws(Fault) -> Bool {
    switch sign {
    case .equal: return try equal(a, b)
    case .unequal: return try !equal(a, b)
    case .isIn: return try contains(b, a)
    case .isNotIn: return try !contains(b, a)
    case .less: return try less(a, b)
    case .greater: return try less(b, a)
    case .lessOrEqual:
      if try less(a, b) { return true }
      return try equal(a, b)
    case .greaterOrEqual:
      if try less(b, a) { return true }
      return try equal(a, b)
    }
  }

  func equal(_ a: TemplateValue, _ b: TemplateValue) throws(Fault) -> Bool {
    try spend()
    switch (a, b) {
    case (.undefined, .undefined), (.none, .none): return true
    case (.text(let x), .text(let y)): return x == y
    case (.list(let x), .list(let y)):
      guard x.isTuple == y.isTuple, x.items.count == y.items.count else { return false }
      for (p, q) in zip(x.items, y.items) where try !equal(p, q) { return false }
      return true
    case (.dict(let x), .dict(let y)):
      guard x.count == y.count else { return false }
      for (key, value) in zip(x.keys, x.values) {
        guard let at = try position(of: key, in: y), try equal(value, y.values[at]) else {
          return false
        }
      }
      return true
    case (.namespace(let x), .namespace(let y)): return x === y
    case (.macro(let x), .macro(let y)): return x === y
    case (.loop(let x), .loop(let y)): return x === y
    case (.function(let x), .function(let y)): return x == y
    default:
      if let x = a.asInteger, let y = b.asInteger { return x == y }
      if let x = a.asDouble, let y = b.asDouble { return x == y }
      return false
    }
  }

  func less(_ a: TemplateValue, _ b: TemplateValue) throws(Fault) -> Bool {
    try spend()
    switch (a, b) {
    case (.text(let x), .text(let y)): return x < y
    case (.list(let x), .list(let y)) where x.isTuple == y.isTuple:
      for (p, q) in zip(x.items, y.items) where try !equal(p, q) { return try less(p, q) }
      return x.items.count < y.items.count
    case (.undefined(let words), _), (_, .undefined(let words)): throw fault(words)
    default:
      if let x = a.asInteger, let y = b.asInteger { return x < y }
      guard let x = a.asDouble, let y = b.asDouble else {
        throw fault("found \(a.kind) and \(b.kind), which have no order")
      }
      return x < y
    }
  }

  func contains(_ container: TemplateValue, _ value: TemplateValue) throws(Fault) -> Bool {
    switch container {
    case .text(let text):
      guard let part = value.asText else { throw wrong(value, "a string to look for in a string") }
      try spend(steps: text.count / 16)
      return text.firstIndex(of: part) != nil
    case .dict(let dict): return try position(of: value, in: dict) != nil
    case .undefined: return false
    default:
      for item in try items(of: container) where try equal(item, value) { return true }
      return false
    }
  }

  /// What a loop over the value takes one by one.
  func items(of value: TemplateValue) throws(Fault) -> [TemplateValue] {
    switch value {
    case .undefined: return []
    case .list(let list): return list.items
    case .dict(let dict): return dict.keys
    case .text(let text):
      try spend(steps: text.count)
      return text.units.map { .text(TemplateText(units: [$0])) }
    default: throw wrong(value, "a list, a dictionary or a string")
    }
  }
}
