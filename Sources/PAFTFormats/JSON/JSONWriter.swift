// SPDX-License-Identifier: Apache-2.0

extension JSON {
  /// The value as JSON text. `pretty` indents by two spaces, one member a line. Doubles are written
  /// shortest so that they read back to the same bits; NaN and infinities, which JSON lacks, become
  /// null.
  package func serialized(pretty: Bool = false) -> String {
    var writer = JSONWriter(pretty: pretty)
    writer.write(self)
    return String(decoding: writer.out, as: UTF8.self)
  }
}

private struct JSONWriter {
  let pretty: Bool
  var out: [UInt8] = []
  private var indent = 0

  init(pretty: Bool) { self.pretty = pretty }

  mutating func write(_ value: JSON) {
    switch value {
    case .null: put("null")
    case .bool(let flag): put(flag ? "true" : "false")
    case .integer(let number): put(String(number))
    case .number(let number): put(number.isFinite ? number.description : "null")
    case .string(let text): write(text)
    case .array(let elements):
      // Arrays of plain numbers (shapes, ids) stay on one line.
      let flat = elements.allSatisfy { $0.array == nil && $0.object == nil }
      list("[", "]", elements.count, onOneLine: flat) { writer, i in writer.write(elements[i]) }
    case .object(let object):
      list("{", "}", object.count, onOneLine: false) { writer, i in
        writer.write(object.keys[i])
        writer.put(writer.pretty ? ": " : ":")
        writer.write(object.values[i])
      }
    }
  }

  private mutating func list(
    _ open: String, _ close: String, _ count: Int, onOneLine: Bool,
    _ element: (inout JSONWriter, Int) -> Void
  ) {
    let breaking = pretty && !onOneLine && count > 0
    put(open)
    indent += 1
    for i in 0..<count {
      if i > 0 { put(pretty && !breaking ? ", " : ",") }
      if breaking { newLine() }
      element(&self, i)
    }
    indent -= 1
    if breaking { newLine() }
    put(close)
  }

  private mutating func newLine() {
    put("\n")
    for _ in 0..<indent { put("  ") }
  }

  private mutating func write(_ text: String) {
    put("\"")
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""): put("\\\"")
      case UInt8(ascii: "\\"): put("\\\\")
      case 0x0A: put("\\n")
      case 0x0D: put("\\r")
      case 0x09: put("\\t")
      case 0x08: put("\\b")
      case 0x0C: put("\\f")
      case 0..<0x20, 0x7F:
        let hex = String(byte, radix: 16)
        put("\\u" + String(repeating: "0", count: 4 - hex.count) + hex)
      default: out.append(byte)
      }
    }
    put("\"")
  }

  private mutating func put(_ text: String) { out.append(contentsOf: text.utf8) }
}
