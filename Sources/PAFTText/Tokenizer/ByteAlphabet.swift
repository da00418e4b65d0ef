// SPDX-License-Identifier: Apache-2.0

/// GPT-2's printable spelling of bytes: every byte has one character, so that a vocabulary of byte
/// strings can be written as text. Printable Latin-1 stands for itself; the other 68 bytes take the
/// characters from U+0100 on, in order.
enum ByteAlphabet {
  static let scalars: [Unicode.Scalar] = {
    var next: UInt32 = 0x100
    return (0..<256).map { byte in
      let value = UInt32(byte)
      let printable =
        (0x21...0x7E).contains(value) || (0xA1...0xAC).contains(value)
        || (0xAE...0xFF).contains(value)
      if printable { return Unicode.Scalar(UInt8(byte)) }
      defer { next += 1 }
      return Unicode.Scalar(next)!
    }
  }()

  private static let bytes: [Unicode.Scalar: UInt8] = Dictionary(
    uniqueKeysWithValues: scalars.enumerated().map { ($1, UInt8($0)) })

  /// The bytes a token of a byte-level vocabulary stands for; nil if it is not spelt that way.
  static func decode(_ token: String) -> [UInt8]? {
    var result: [UInt8] = []
    for scalar in token.unicodeScalars {
      guard let byte = bytes[scalar] else { return nil }
      result.append(byte)
    }
    return result
  }

  static func encode(_ text: some Sequence<UInt8>) -> String {
    var result = String.UnicodeScalarView()
    for byte in text { result.append(scalars[Int(byte)]) }
    return String(result)
  }
}
