// SPDX-License-Identifier: Apache-2.0

import Foundation
internal import PAFTBase
import PAFTFormats

/// What happens to the text before it is cut: the `normalizer` of a tokenizer file.
indirect enum Normalizer: Sendable {
  case sequence([Normalizer])
  case prepend([UInt8])
  case replace(Pattern, with: [UInt8])
  case unicode(Form)
  case lowercase
  case strip(left: Bool, right: Bool)

  enum Form: String, CaseIterable { case nfc = "NFC", nfd = "NFD", nfkc = "NFKC", nfkd = "NFKD" }

  private static let known = [
    "Sequence", "Prepend", "Replace", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip",
  ]

  init(_ component: Component) throws(Fault) {
    let type = try component.type()
    switch type {
    case "Sequence":
      var steps: [Normalizer] = []
      for step in try component.components("normalizers") { steps.append(try Normalizer(step)) }
      self = .sequence(steps)
    case "Prepend": self = .prepend(Array(try component.string("prepend").utf8))
    case "Replace":
      self = .replace(
        try component.pattern(), with: Array(try component.string("content").utf8))
    case "Lowercase": self = .lowercase
    case "Strip":
      self = .strip(
        left: try component.bool("strip_left", default: true),
        right: try component.bool("strip_right", default: true))
    default:
      guard let form = Form(rawValue: type) else {
        try component.unknown("normalizer", known: Self.known)
      }
      self = .unicode(form)
    }
  }

  func apply(_ bytes: [UInt8], _ matcher: Matcher) throws(Fault) -> [UInt8] {
    switch self {
    case .sequence(let steps):
      var bytes = bytes
      for step in steps { bytes = try step.apply(bytes, matcher) }
      return bytes
    case .prepend(let prefix): return bytes.isEmpty ? bytes : prefix + bytes
    case .replace(let pattern, let content):
      return try pattern.replacing(bytes, with: content, matcher)
    case .unicode(let form):
      // Every normalization form leaves ASCII as it is.
      if bytes.allSatisfy({ $0 < 0x80 }) { return bytes }
      let text = String(decoding: bytes, as: UTF8.self)
      return switch form {
      case .nfc: Array(text.precomposedStringWithCanonicalMapping.utf8)
      case .nfd: Array(text.decomposedStringWithCanonicalMapping.utf8)
      case .nfkc: Array(text.precomposedStringWithCompatibilityMapping.utf8)
      case .nfkd: Array(text.decomposedStringWithCompatibilityMapping.utf8)
      }
    case .lowercase:
      // Scalar by scalar: the rule for a final sigma looks at neighbours, this step does not.
      var lowered = String.UnicodeScalarView()
      for scalar in String(decoding: bytes, as: UTF8.self).unicodeScalars {
        lowered.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
      }
      return Array(String(lowered).utf8)
    case .strip(let left, let right):
      var scalars = Substring(decoding: bytes, as: UTF8.self).unicodeScalars
      if left { scalars = scalars.drop { $0.properties.isWhitespace } }
      if right {
        while scalars.last?.properties.isWhitespace == true { scalars.removeLast() }
      }
      return Array(String(scalars).utf8)
    }
  }
}

extension Pattern {
  func replacing(
    _ bytes: [UInt8], with content: [UInt8], _ matcher: Matcher
  ) throws(Fault) -> [UInt8] {
    var result: [UInt8] = []
    var done = 0
    try bytes.withUnsafeBufferPointer { (buffer) throws(Fault) in
      try forEachMatch(in: buffer, matcher) { match in
        result.append(contentsOf: buffer[done..<match.lowerBound])
        result.append(contentsOf: content)
        done = match.upperBound
      }
    }
    if done == 0, result.isEmpty { return bytes }
    result.append(contentsOf: bytes[done...])
    return result
  }
}
