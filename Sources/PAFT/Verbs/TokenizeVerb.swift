// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTText

/// `paft tokenize`: one line in, one line out.
///
/// Plain: a text → its ids with blanks between; with `decodes`, ids → text. As JSON lines: `{"text"}`
/// ↔ `{"input_ids"}`.
package struct TokenizeVerb: Sendable {
  private let tokenizer: Tokenizer
  package var decodes = false
  package var usesJSON = false
  package var addsSpecialTokens = false
  package var skipsSpecialTokens = false

  package init(model: String) throws(PAFTError) {
    tokenizer = try PAFTError.wrapping { try Tokenizer(folder: model) }
  }

  /// - Parameter number: of the line, from 1, for messages.
  package func answer(_ line: [UInt8], number: Int) throws(PAFTError) -> String {
    try PAFTError.wrapping {
      decodes ? try decoded(line, "line \(number)") : try encoded(line, "line \(number)")
    }
  }

  private func encoded(_ line: [UInt8], _ place: String) throws -> String {
    let text: String
    if usesJSON {
      guard let value = try JSON.parse(line: line, at: place)["text"]?.string else {
        throw Fault(.data, "\(place): expected an object with a string under \"text\"")
      }
      text = value
    } else {
      guard let value = String(validating: line, as: UTF8.self) else {
        throw Fault(.data, "\(place): not UTF-8")
      }
      text = value
    }
    let ids = try tokenizer.encode(text, addSpecialTokens: addsSpecialTokens)
    return usesJSON
      ? Self.list(ids, opening: "{\"input_ids\":[", separator: ",", closing: "]}")
      : Self.list(ids, opening: "", separator: " ", closing: "")
  }

  /// Digits straight into bytes: writing the ids would otherwise cost more than finding them.
  private static func list(
    _ ids: [Int32], opening: String, separator: Unicode.Scalar, closing: String
  ) -> String {
    var text: [UInt8] = []
    text.reserveCapacity(8 * ids.count + 16)
    text.append(contentsOf: opening.utf8)
    for (position, id) in ids.enumerated() {
      if position > 0 { text.append(UInt8(ascii: separator)) }
      let first = text.count
      var rest = id
      repeat {
        text.append(UInt8(ascii: "0") + UInt8(rest % 10))
        rest /= 10
      } while rest > 0
      text[first...].reverse()
    }
    text.append(contentsOf: closing.utf8)
    return String(decoding: text, as: UTF8.self)
  }

  private func decoded(_ line: [UInt8], _ place: String) throws -> String {
    let numbers: [Int?]
    if usesJSON {
      guard let values = try JSON.parse(line: line, at: place)["input_ids"]?.array else {
        throw Fault(.data, "\(place): expected an object with an array under \"input_ids\"")
      }
      numbers = values.map(\.int)
    } else {
      let separators = Set(" ,\t[]\r".utf8)
      numbers = line.split { separators.contains($0) }
        .map { Int(String(decoding: $0, as: UTF8.self)) }
    }
    let ids = try numbers.enumerated().map { position, number in
      guard let number, let id = Int32(exactly: number), id >= 0,
        Int(id) < tokenizer.vocabularySize
      else {
        throw Fault(
          .data,
          "\(place), value \(position + 1): found \(number.map(String.init) ?? "no number"), "
            + "expected a token id below \(tokenizer.vocabularySize)")
      }
      return id
    }
    let text = try tokenizer.decode(ids, skipSpecialTokens: skipsSpecialTokens)
    guard usesJSON else { return text }
    let value: JSON = ["text": .string(text)]
    return value.serialized()
  }
}
