// SPDX-License-Identifier: Apache-2.0

/// The kernel's notation for sets of CPUs or nodes: "0-3,8,10-11".
package enum CPUList {
  /// More CPUs than any kernel is built for.
  static let bound = 1 << 14

  /// Ascending numbers without repetition; nil when the text is not such a list. "" is empty.
  package static func parse(_ text: String) -> [Int]? {
    var found: Set<Int> = []
    for part in text.split(separator: ",", omittingEmptySubsequences: !text.contains(",")) {
      let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { number($0) }
      guard let first = ends[0], let last = ends[ends.count - 1], ends.count <= 2, first <= last
      else { return nil }
      found.formUnion(first...last)
    }
    return found.sorted()
  }

  /// "0-3,8" for [0, 1, 2, 3, 8].
  package static func format(_ cpus: some Sequence<Int>) -> String {
    var ranges: [ClosedRange<Int>] = []
    for cpu in cpus.sorted() {
      if let last = ranges.last, last.upperBound == cpu { continue }
      if let last = ranges.last, last.upperBound + 1 == cpu {
        ranges[ranges.count - 1] = last.lowerBound...cpu
      } else {
        ranges.append(cpu...cpu)
      }
    }
    return ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
      .joined(separator: ",")
  }

  private static func number(_ text: Substring) -> Int? {
    guard text.utf8.allSatisfy({ 48...57 ~= $0 }), let value = Int(text), value < bound
    else { return nil }
    return value
  }
}
