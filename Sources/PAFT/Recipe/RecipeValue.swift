// SPDX-License-Identifier: Apache-2.0

import PAFTFormats

/// Reads one value as the kind its key wants. Spellings are ConfigNode's: `1e-5`, `1E-5` and `.5`
/// are numbers, `no` and `off` are switches, whatever YAML's versions say.
enum RecipeValue {
  static func number(_ node: ConfigNode, _ kind: RecipeKey.Kind) throws -> Double {
    guard case .number(let min, let max, let openMin, let openMax) = kind else {
      return try node.double()
    }
    let expected = "expected a number" + bounds(min, max, openMin, openMax)
    guard let value = try? node.double() else { throw node.error(expected) }
    let low = min.map { openMin ? value > $0 : value >= $0 } ?? true
    let high = max.map { openMax ? value < $0 : value <= $0 } ?? true
    guard low, high else { throw node.error(expected) }
    return value
  }

  static func count(_ node: ConfigNode, _ kind: RecipeKey.Kind) throws -> Int {
    guard case .count(let min, let max) = kind else { return try node.int() }
    guard let value = try? node.int(), value >= min, value <= max ?? .max else {
      throw node.error(
        "expected a whole number " + (max.map { "from \(min) to \($0)" } ?? ">= \(min)"))
    }
    return value
  }

  static func choice(_ node: ConfigNode, _ names: [String]) throws -> String {
    if let text = try? node.string() {
      let word = text.lowercased()
      if let known = names.first(where: { $0 == word || $0 == synonyms[word] }) { return known }
    }
    _ = try node.choice(names)
    return ""
  }

  static func texts(_ node: ConfigNode) throws -> [String] {
    node.isSequence ? try node.elements().map { try $0.string() } : [try node.string()]
  }

  static func numbers(_ node: ConfigNode) throws -> [Double] {
    node.isSequence ? try node.elements().map { try $0.double() } : [try node.double()]
  }

  /// A number of bytes, or of "KiB", "MiB", "GiB", "TiB" ("K" and "KB" and so on are the same).
  static func bytes(_ node: ConfigNode) throws -> Int {
    let text = try node.string().lowercased().filter { $0 != " " }
    let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let unit = text.dropFirst(number.count)
    let known = ["b", "k", "m", "g", "t"].firstIndex {
      $0 == "b" ? unit.isEmpty || unit == "b" : [$0, $0 + "b", $0 + "ib"].contains(String(unit))
    }
    guard let value = Double(number), let known, value > 0 else {
      throw node.error("expected bytes, or a number such as 4GiB or 512MiB")
    }
    let bytes = value * Double(1 << (10 * known))
    guard bytes >= 1, bytes < 0x1p62 else {
      throw node.error("expected bytes, or a number such as 4GiB or 512MiB")
    }
    return Int(bytes)
  }

  static func flagOrAuto(_ node: ConfigNode) throws -> Bool? {
    if (try? node.string()) == "auto" { return nil }
    return try node.bool()
  }

  /// Spellings of torch and of other trainers.
  private static let synonyms: [String: String] = [
    "bfloat16": "bf16", "float32": "f32", "fp32": "f32", "float": "f32", "float16": "f16",
    "fp16": "f16", "half": "f16", "adamw_torch": "adamw", "adamw_torch_fused": "adamw",
    "adamw_hf": "adamw", "adamw_bnb_8bit": "adamw_8bit", "paged_adamw_8bit": "adamw_8bit",
  ]

  private static func bounds(_ min: Double?, _ max: Double?, _ openMin: Bool, _ openMax: Bool)
    -> String
  {
    switch (min, max) {
    case (nil, nil): ""
    case (let low?, nil): " \(openMin ? ">" : ">=") \(Numbers.short(low))"
    case (nil, let high?): " \(openMax ? "<" : "<=") \(Numbers.short(high))"
    case (let low?, let high?):
      " with \(Numbers.short(low)) \(openMin ? "<" : "<=") x \(openMax ? "<" : "<=") "
        + Numbers.short(high)
    }
  }
}
