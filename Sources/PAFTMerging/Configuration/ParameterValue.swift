// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
package import PAFTFormats

/// A parameter as the configuration gives it: a number, a gradient over the depth of the model, or
/// a list of these for tensors whose names contain a filter.
package indirect enum ParameterValue: Sendable, Equatable {
  case scalar(Double)
  /// At least one value, interpolated linearly over t in 0...1.
  case gradient([Double])
  /// The first match wins; a filter of nil matches every name, a value of nil falls through.
  case filtered([Filtered])

  package struct Filtered: Sendable, Equatable {
    package var filter: String?
    package var value: ParameterValue?
  }

  /// The value for a tensor, or nil when no filter matches it.
  package func evaluate(tensor: String, t: Double) -> Double? {
    switch self {
    case .scalar(let value): return value
    case .gradient(let values):
      guard values.count > 1 else { return values.first }
      let x = max(0, min(1, t)) * Double(values.count - 1)
      let i = Int(x)
      let f = x - Double(i)
      return (1 - f) * values[i] + f * values[min(i + 1, values.count - 1)]
    case .filtered(let cases):
      let match = cases.first { $0.filter.map { tensor.utf8Contains($0) } ?? true }
      return match?.value?.evaluate(tensor: tensor, t: t)
    }
  }
}

extension String {
  /// Substring search by bytes.
  fileprivate func utf8Contains(_ part: String) -> Bool {
    let (text, part) = (Array(utf8), Array(part.utf8))
    guard !part.isEmpty, text.count >= part.count else { return part.isEmpty }
    return (0...(text.count - part.count)).contains { text[$0..<($0 + part.count)] == part[...] }
  }
}

// MARK: - Reading

extension ParameterValue {
  /// Nil for null. A lone {filter, value} mapping is a list of one.
  package init?(_ node: ConfigNode, _ kind: MergeParameter.Kind) throws(ConfigError) {
    if node.isNull { return nil }
    if node.isScalar {
      self = .scalar(try Self.scalar(node, kind))
    } else if node.isMapping {
      self = .filtered([try Self.filtered(node, kind)])
    } else {
      let elements = try node.elements()
      guard let first = elements.first else { throw node.error("expected at least one value") }
      if first.isMapping {
        var cases: [Filtered] = []
        for element in elements { cases.append(try Self.filtered(element, kind)) }
        self = .filtered(cases)
      } else {
        guard kind == .number else {
          throw node.error("a gradient needs numbers", hint: "give one value")
        }
        var values: [Double] = []
        for element in elements { values.append(try Self.scalar(element, kind)) }
        self = .gradient(values)
      }
    }
  }

  private static func scalar(_ node: ConfigNode, _ kind: MergeParameter.Kind) throws(ConfigError)
    -> Double
  {
    switch kind {
    case .number: return try node.double()
    case .flag: return try node.bool() ? 1 : 0
    case .word(let words): return Double(words.firstIndex(of: try node.choice(words))!)
    }
  }

  private static func filtered(_ node: ConfigNode, _ kind: MergeParameter.Kind) throws(ConfigError)
    -> Filtered
  {
    try node.check(known: ["filter", "value"])
    guard let value = node["value"] else { throw node.error("no key 'value', which is required") }
    var filter: String?
    if let text = node["filter"], !text.isNull, try text.string() != "*" {
      filter = try text.string()
    }
    return Filtered(filter: filter, value: try ParameterValue(value, kind))
  }
}
