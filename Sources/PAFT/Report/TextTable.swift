// SPDX-License-Identifier: Apache-2.0

/// A table of texts: aligned for a terminal, or as Markdown. The first column and columns of words
/// are set left, numbers right.
package struct TextTable: Sendable {
  package let header: [String]
  package private(set) var rows: [[String]] = []

  package init(_ header: [String]) { self.header = header }

  package mutating func add(_ row: [String]) {
    precondition(row.count == header.count, "a row of \(row.count) in \(header.count) columns")
    rows.append(row)
  }

  /// Columns that hold something in at least one row; the others would only be noise.
  package func withoutEmptyColumns() -> TextTable {
    let kept = header.indices.filter { column in rows.contains { !$0[column].isEmpty } }
    var table = TextTable(kept.map { header[$0] })
    table.rows = rows.map { row in kept.map { row[$0] } }
    return table
  }

  package var text: String {
    let widths = columnWidths
    func line(_ cells: [String]) -> String {
      var out = ""
      for (column, cell) in cells.enumerated() {
        out += (column == 0 ? "" : "  ") + padded(cell, widths[column], column)
      }
      while out.last == " " { out.removeLast() }
      return out + "\n"
    }
    return line(header) + rows.map(line).joined()
  }

  package var markdown: String {
    let widths = columnWidths
    func line(_ cells: [String]) -> String {
      "| " + cells.indices.map { padded(cells[$0], widths[$0], $0) }.joined(separator: " | ")
        + " |\n"
    }
    let rule = header.indices.map { column in
      String(repeating: "-", count: max(2, widths[column]) - (isNumeric(column) ? 1 : 0))
        + (isNumeric(column) ? ":" : "")
    }
    return line(header) + "| " + rule.joined(separator: " | ") + " |\n" + rows.map(line).joined()
  }

  private var columnWidths: [Int] {
    header.indices.map { column in
      rows.reduce(max(2, header[column].count)) { max($0, $1[column].count) }
    }
  }

  private func padded(_ cell: String, _ width: Int, _ column: Int) -> String {
    let space = String(repeating: " ", count: width - cell.count)
    return isNumeric(column) ? space + cell : cell + space
  }

  private func isNumeric(_ column: Int) -> Bool {
    column > 0 && rows.contains { !$0[column].isEmpty }
      && rows.allSatisfy { row in
        guard let first = row[column].utf8.first else { return true }
        return "-+.0123456789".utf8.contains(first)
      }
  }
}
