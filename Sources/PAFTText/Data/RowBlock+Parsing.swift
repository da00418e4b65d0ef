// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
import PAFTFormats

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

extension RowBlock {
  /// No honest row is nested deeper.
  private static let limits = JSONLimits(depth: 32, values: 1 << 24)

  /// Parses the rows in order; empty lines are none.
  ///
  /// - Parameter body: gets each record with the number of its row, or what is wrong with it.
  package func forEach(_ body: (_ number: Int, Result<Record, Fault>) -> Void) {
    func take(_ number: Int, _ read: () throws(Fault) -> Record) {
      do throws(Fault) { body(number, .success(try read())) } catch {
        body(number, .failure(error))
      }
    }
    bytes.withRawBytes { buffer in
      guard origin.layout == .lines || origin.layout == .text else {
        for (index, span) in spans.enumerated() {
          let number = origin.layout == .csv ? span.line : first + index
          take(number) { () throws(Fault) in try record(span, first + index, buffer) }
        }
        return
      }
      var at = 0
      var number = first
      while at < buffer.count {
        let end = newline(buffer, from: at)
        if !isBlank(buffer, at..<end) {
          take(number) { () throws(Fault) in try record(buffer, at..<end, number) }
        }
        at = end + 1
        number += 1
      }
    }
  }

  private func newline(_ buffer: UnsafeRawBufferPointer, from start: Int) -> Int {
    let base = buffer.baseAddress!
    guard let found = memchr(base + start, 0x0A, buffer.count - start) else { return buffer.count }
    return UnsafeRawPointer(found) - base
  }

  private func isBlank(_ buffer: UnsafeRawBufferPointer, _ range: Range<Int>) -> Bool {
    for at in range where !isSpace(buffer[at]) { return false }
    return true
  }

  // MARK: - One row

  private func record(
    _ buffer: UnsafeRawBufferPointer, _ range: Range<Int>, _ number: Int
  ) throws(Fault) -> Record {
    let place = origin.place(number)
    let line = UnsafeRawBufferPointer(rebasing: buffer[range])
    if origin.layout == .text {
      var text = line[...]
      if text.last == 0x0D { text.removeLast() }
      guard let string = String(validating: text, as: UTF8.self) else {
        throw Fault(.data, "\(place): bytes that are not UTF-8")
      }
      return .text(string)
    }
    let json: JSON
    do { json = try JSON.parse(line, source: place, limits: Self.limits) } catch {
      var hint: String?
      if case .endOfInput = error.reason {
        hint =
          isLast && range.upperBound == buffer.count
          ? "the last line is cut off: the file may not have been written to its end"
          : "each line holds one whole JSON object; a pretty-printed file must be one array"
      }
      throw error.fault(at: place, of: "line", hint: hint)
    }
    return try RecordFormat.read(json, place: place)
  }

  private func record(
    _ span: RowSpan, _ number: Int, _ buffer: UnsafeRawBufferPointer
  ) throws(Fault) -> Record {
    if origin.layout == .csv {
      let place = origin.place(span.line)
      return try RecordFormat.read(
        try CSV.row(bytes[span.bytes], header, place), place: place)
    }
    let place = origin.place(number, line: span.line)
    let json: JSON
    do {
      let element = UnsafeRawBufferPointer(rebasing: buffer[span.bytes])
      json = try JSON.parse(element, source: place, limits: Self.limits)
    } catch { throw error.fault(at: place, of: "row") }
    return try RecordFormat.read(json, place: place)
  }
}
