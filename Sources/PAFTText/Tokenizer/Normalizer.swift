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
  case stripAccents
  case nmt
  case precompiled(CharacterMap)
  /// Of a SentencePiece file; no tokenizer.json has it.
  case sentencePiece(SentencePieceNormalizer)
  /// Bytes in GPT-2's printable spelling; the model then works on characters.
  case byteLevel

  enum Form: String, CaseIterable { case nfc = "NFC", nfd = "NFD", nfkc = "NFKC", nfkd = "NFKD" }

  private static let known = [
    "Sequence", "Prepend", "Replace", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip",
    "StripAccents", "Nmt", "Precompiled", "ByteLevel",
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
    case "StripAccents": self = .stripAccents
    case "Nmt": self = .nmt
    case "ByteLevel": self = .byteLevel
    case "Precompiled":
      // Some writers leave the step in with nothing to do.
      let isEmpty = component.member("precompiled_charsmap")?.string?.isEmpty ?? true
      self = isEmpty ? .sequence([]) : .precompiled(try CharacterMap(component))
    default:
      guard let form = Form(rawValue: type) else {
        try component.unknown("normalizer", known: Self.known)
      }
      self = .unicode(form)
    }
  }

  /// Whether it certainly changes nothing in this text.
  func leaves(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    guard case .unicode(let form) = self else { return false }
    // Every form leaves ASCII as it is.
    var most: UInt8 = 0
    for byte in bytes { most = max(most, byte) }
    if most < 0x80 { return true }
    guard form == .nfc else { return false }
    if most < 0xCC { return true }
    var at = 0
    while at < bytes.count {
      if bytes[at] < 0x80 {
        at += 1
        continue
      }
      let (scalar, length) = Scalars.decode(bytes, at)
      guard Self.isComposed(scalar) else { return false }
      at += length
    }
    return true
  }

  /// Whether composition (NFC) certainly leaves the character as it is, whatever stands beside it: it
  /// has no composition of its own, no mark that moves and no part in its neighbour's. The blocks that
  /// most texts are of; of others the library is asked.
  static func isComposed(_ scalar: UInt32) -> Bool {
    switch scalar {
    case ..<0x300: true  // Latin, and marks that take no room of their own
    case 0x391...0x3CF where scalar != 0x3A2: true  // Greek
    case 0x400...0x482, 0x48A...0x52F: true  // Cyrillic
    case 0x2002...0x20CF: true  // punctuation, superscripts, currencies
    case 0x2190...0x2328, 0x232B...0x23FF, 0x2500...0x26FF: true  // arrows, mathematics, boxes
    case 0x3000...0x3029, 0x3041...0x3096, 0x30A1...0x30FA: true  // kana
    case 0x4E00...0x9FFF, 0xAC00...0xD7A3: true  // Han, Hangul
    case 0xFF01...0xFF9D: true  // full width
    case 0x1F300...0x1FAFF: true  // pictures
    default: false
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
      if bytes.withUnsafeBufferPointer({ leaves($0) }) { return bytes }
      let text = String(decoding: bytes, as: UTF8.self)
      return switch form {
      case .nfc: Hangul.composed(text) { $0.precomposedStringWithCanonicalMapping }
      case .nfd: Array(text.decomposedStringWithCanonicalMapping.utf8)
      case .nfkc: Hangul.composed(text) { $0.precomposedStringWithCompatibilityMapping }
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
    case .stripAccents:
      return Self.mapping(bytes) { Self.isMark($0) ? nil : $0 }
    case .nmt: return Self.mapping(bytes, Self.machineTranslation)
    case .precompiled(let map): return map.apply(bytes)
    case .sentencePiece(let rules): return rules.apply(bytes)
    case .byteLevel: return Array(ByteAlphabet.encode(bytes).utf8)
    }
  }

  private static func mapping(
    _ bytes: [UInt8], _ map: (Unicode.Scalar) -> Unicode.Scalar?
  ) -> [UInt8] {
    var result = String.UnicodeScalarView()
    for scalar in String(decoding: bytes, as: UTF8.self).unicodeScalars {
      if let mapped = map(scalar) { result.append(mapped) }
    }
    return Array(String(result).utf8)
  }

  private static func isMark(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark: true
    default: false
    }
  }

  /// The `Nmt` step: control characters go, odd blanks become blanks (SentencePiece's nmt rules).
  private static func machineTranslation(_ scalar: Unicode.Scalar) -> Unicode.Scalar? {
    switch scalar.value {
    case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x8F, 0x9F: nil
    case 0x09, 0x0A, 0x0C, 0x0D, 0x1680, 0x200B...0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF,
      0xFFFD:
      " "
    default: scalar
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
