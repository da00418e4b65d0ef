// SPDX-License-Identifier: Apache-2.0

/// What rows of tokens begin with alike: a template's head, a system prompt, the question of several
/// answers. A pass computes each of these beginnings once, forward and backward: under causal attention
/// no token sees what follows it, so the hidden states of equal beginnings are equal, and the gradient of
/// one that is computed once is the sum of what comes back to it. The same mathematics; only the order
/// of sums differs.
///
/// The beginnings are found once, for all rows, and a row is always cut where they end, whatever stands
/// beside it: what is computed of it does not depend on its neighbours, to the bit.
package struct PromptTree: Sendable {
  /// Tokens that some rows have in common behind those of `parent`.
  package struct Beginning: Sendable, Equatable {
    package let ids: [Int32]
    /// The beginning that this one continues, before it in the list, or nil.
    package let parent: Int?
    /// Tokens before it, and up to its end.
    package let from: Int
    package var to: Int { from + ids.count }
  }

  /// Shorter ones are computed with each row: one more sequence costs attention a panel of keys and a
  /// group of queries that are partly empty.
  package static let leastTokens = 16

  package private(set) var beginnings: [Beginning] = []
  /// The longest beginning of each row, or -1.
  private var deepest: [Int32]

  /// - Parameters:
  ///   - window: rows of a step. A beginning counts if so many random rows have it twice on average: what
  ///     meets nothing to share it with would only cut its row in two.
  ///   - sharable: tokens at a row's head that others may share. Neither they nor the one behind them have
  ///     a label, so that each row of hidden states has one label at most.
  ///   - token: one of them.
  package init(
    rows: Int, window: Int, sharable: (_ row: Int) -> Int, token: (_ row: Int, _ at: Int) -> Int32
  ) {
    deepest = [Int32](repeating: -1, count: rows)
    let window = max(1, min(window, rows))
    let least = (2 * rows + window - 1) / window
    /// Rows that have their first `depth` tokens in common, of which `from` belong to `parent`.
    var open: [(rows: [Int], depth: Int, from: Int, parent: Int?)] = [
      (Array(0..<rows), 0, 0, nil)
    ]
    while var group = open.popLast() {
      guard group.rows.count >= least, let first = group.rows.first else { continue }
      var end = sharable(first)
      for row in group.rows.dropFirst() {
        end = min(end, sharable(row))
        var at = group.depth
        while at < end, token(row, at) == token(first, at) { at += 1 }
        end = at
      }
      group.depth = end
      if end - group.from >= Self.leastTokens {
        for row in group.rows { deepest[row] = Int32(truncatingIfNeeded: beginnings.count) }
        beginnings.append(
          Beginning(
            ids: (group.from..<end).map { token(first, $0) }, parent: group.parent,
            from: group.from))
        (group.from, group.parent) = (end, beginnings.count - 1)
      }
      let longer = Dictionary(grouping: group.rows.filter { sharable($0) > end }) {
        token($0, end)
      }
      for (_, rows) in longer.sorted(by: { $0.key > $1.key }) {
        open.append((rows, end + 1, group.from, group.parent))
      }
    }
  }

  /// The first tokens of all rows of a window that lie in beginnings they share: what a cut into passes
  /// counts once for each pass.
  package func common(_ window: UnsafeBufferPointer<Int32>) -> Int {
    guard window.count > 1, !beginnings.isEmpty else { return 0 }
    var common = deepest[Int(window[0])]
    for row in window {
      // Parents stand before what continues them.
      var other = deepest[Int(row)]
      while other != common {
        if common < 0 { return 0 }
        if other > common { other = parent(other) } else { common = parent(common) }
      }
    }
    return common < 0 ? 0 : beginnings[Int(common)].to
  }

  /// Where the prompt of a row is cut: the ends of its beginnings, the longest first.
  package func cuts(_ row: Int) -> [Int] {
    var cuts: [Int] = []
    var at = deepest[row]
    while at >= 0 {
      cuts.append(beginnings[Int(at)].to)
      at = parent(at)
    }
    return cuts
  }

  private func parent(_ beginning: Int32) -> Int32 {
    beginnings[Int(beginning)].parent.map { Int32(truncatingIfNeeded: $0) } ?? -1
  }

  /// Visits the rows of a pass in their order, and each of their beginnings before the first that has it.
  ///
  /// - Parameters:
  ///   - beginning: one that lies behind `parent`; its answer is the `parent` of what continues it.
  ///   - row: a row, of which all before token `from` is computed in `parent`.
  package func walk(
    _ rows: UnsafeBufferPointer<Int32>,
    beginning: (_ beginning: Beginning, _ parent: Int?) -> Int,
    row: (_ row: Int32, _ from: Int, _ parent: Int?) -> Void
  ) {
    withUnsafeTemporaryAllocation(of: Int.self, capacity: beginnings.count + 1) { places in
      places.initialize(repeating: -1)
      func place(_ index: Int) -> Int {
        if places[index] < 0 {
          places[index] = beginning(beginnings[index], beginnings[index].parent.map(place))
        }
        return places[index]
      }
      for index in rows {
        let last = Int(deepest[Int(index)])
        if last < 0 { row(index, 0, nil) } else { row(index, beginnings[last].to, place(last)) }
      }
    }
  }

  /// Tokens that a pass computes, where `length` are those of one row alone.
  package func tokens(
    _ rows: UnsafeBufferPointer<Int32>, _ length: (_ row: Int32) -> Int
  ) -> Int {
    var sum = 0
    walk(rows) { beginning, _ in
      sum += beginning.ids.count
      return 0
    } row: { row, from, _ in
      sum += length(row) - from
    }
    return sum
  }
}
