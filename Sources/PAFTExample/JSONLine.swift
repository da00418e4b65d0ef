// SPDX-License-Identifier: Apache-2.0

/// Writes the flat JSON objects of data files: string values only, one object a line (RFC 8259).
package enum JSONLine {
  package static func object(_ fields: [(name: String, value: String)]) -> String {
    "{" + fields.map { quoted($0.name) + ":" + quoted($0.value) }.joined(separator: ",") + "}"
  }

  /// Escapes what JSON demands (quote, backslash, below U+0020) and leaves the rest as UTF-8.
  package static func quoted(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\r": out += "\\r"
      case "\t": out += "\\t"
      case _ where scalar.value < 0x20:
        out += "\\u00" + (scalar.value < 0x10 ? "0" : "") + String(scalar.value, radix: 16)
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out + "\""
  }
}
