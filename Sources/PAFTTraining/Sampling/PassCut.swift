// SPDX-License-Identifier: Apache-2.0

import PAFTMachine

/// How the rows of a step are cut into passes of at most `capacity` tokens: as few as best fit finds, and
/// those as even as can be, because the largest decides the memory of activations and a short one
/// reads every weight for few rows.
///
/// Rows are taken by length, longest first. Each goes into the fullest pass that has room for it, which
/// gives the number of passes; then, anew, into the emptiest of so many, and that is kept if none
/// overflows. Passes stand in the order of their first rows, rows in the order of the window. A row
/// longer than the capacity has a pass of its own. The cut depends on the lengths alone, and on how many
/// tokens all rows of the window share, which each pass computes once (`PromptTree`).
package struct PassCut {
  /// The window's rows, those of a pass side by side.
  private let rows: UnsafeMutablePointer<Int32>
  private let ends: UnsafeMutablePointer<Int32>
  package private(set) var count = 0

  /// Longer windows are cut so many rows at a time: the search grows with rows times passes.
  private static let chunk = 1024

  /// - Parameters:
  ///   - shared: tokens at the head of every row that a pass computes once.
  ///   - arena: what the cut lies in: 20 bytes for each row.
  ///   - length: tokens of a row, by its number.
  package init(
    _ window: UnsafeBufferPointer<Int32>, capacity: Int, shared: Int = 0, in arena: Arena,
    length: (Int32) -> Int
  ) {
    func room() -> UnsafeMutablePointer<Int32> {
      arena.allocate(Int32.self, count: max(1, window.count))
    }
    self.init(
      window, capacity: capacity - shared, rows: room(), ends: room(), order: room(),
      passes: room(),
      loads: arena.allocate(Int.self, count: max(1, min(window.count, Self.chunk)))
    ) { length($0) - shared }
  }

  /// The same for a plan: the numbers of the rows of each pass.
  package static func passes(
    _ window: UnsafeBufferPointer<Int32>, capacity: Int, shared: Int = 0,
    length: (Int32) -> Int
  ) -> [[Int32]] {
    withUnsafeTemporaryAllocation(of: Int32.self, capacity: 4 * window.count + 4) { room in
      withUnsafeTemporaryAllocation(of: Int.self, capacity: Self.chunk) { loads in
        let base = room.baseAddress!
        let step = window.count + 1
        let cut = PassCut(
          window, capacity: capacity - shared, rows: base, ends: base + step,
          order: base + 2 * step, passes: base + 3 * step, loads: loads.baseAddress!
        ) { length($0) - shared }
        return (0..<cut.count).map { Array(cut[$0]) }
      }
    }
  }

  private init(
    _ window: UnsafeBufferPointer<Int32>, capacity: Int, rows: UnsafeMutablePointer<Int32>,
    ends: UnsafeMutablePointer<Int32>, order: UnsafeMutablePointer<Int32>,
    passes: UnsafeMutablePointer<Int32>, loads: UnsafeMutablePointer<Int>,
    length: (Int32) -> Int
  ) {
    self.rows = rows
    self.ends = ends
    var from = 0
    while from < window.count {
      let part = UnsafeBufferPointer(
        rebasing: window[from..<min(window.count, from + Self.chunk)])
      Self.assign(part, capacity: capacity, order: order, passes: passes, loads: loads, length)
      append(part, passes, from)
      from += part.count
    }
  }

  /// The numbers of a pass's rows.
  package subscript(_ pass: Int) -> UnsafeBufferPointer<Int32> {
    let from = pass == 0 ? 0 : Int(ends[pass - 1])
    return UnsafeBufferPointer(start: rows + from, count: Int(ends[pass]) - from)
  }

  /// Fills passes[i], the pass of window[i].
  private static func assign(
    _ window: UnsafeBufferPointer<Int32>, capacity: Int, order: UnsafeMutablePointer<Int32>,
    passes: UnsafeMutablePointer<Int32>, loads: UnsafeMutablePointer<Int>,
    _ length: (Int32) -> Int
  ) {
    for i in 0..<window.count { order[i] = Int32(truncatingIfNeeded: i) }
    // Longest first, equals in their order.
    sort(order, window.count) {
      let (a, b) = (length(window[Int($0)]), length(window[Int($1)]))
      return a != b ? a > b : $0 < $1
    }
    var count = 0
    for i in 0..<window.count {
      let row = Int(order[i])
      let tokens = length(window[row])
      var best = -1
      for pass in 0..<count where loads[pass] + tokens <= capacity {
        if best < 0 || loads[pass] > loads[best] { best = pass }
      }
      if best < 0 {
        best = count
        loads[count] = 0
        count += 1
      }
      loads[best] += tokens
      passes[row] = Int32(truncatingIfNeeded: best)
    }
    if count == 1 { return }
    // Evenly, if that fits: the emptiest pass for each.
    func place(_ put: Bool) -> Bool {
      for pass in 0..<count { loads[pass] = 0 }
      for i in 0..<window.count {
        let row = Int(order[i])
        let tokens = length(window[row])
        var least = 0
        for pass in 1..<count where loads[pass] < loads[least] { least = pass }
        if loads[least] > 0, loads[least] + tokens > capacity { return false }
        loads[least] += tokens
        if put { passes[row] = Int32(truncatingIfNeeded: least) }
      }
      return true
    }
    if place(false) { _ = place(true) }
  }

  /// Appends the passes of a chunk in the order of their first rows.
  private mutating func append(
    _ window: UnsafeBufferPointer<Int32>, _ passes: UnsafeMutablePointer<Int32>, _ from: Int
  ) {
    var next = from
    for first in 0..<window.count where passes[first] >= 0 {
      let pass = passes[first]
      for i in first..<window.count where passes[i] == pass {
        rows[next] = window[i]
        next += 1
        passes[i] = -1
      }
      ends[count] = Int32(truncatingIfNeeded: next)
      count += 1
    }
  }

  /// Heap sort: in place, without memory of its own.
  private static func sort(
    _ values: UnsafeMutablePointer<Int32>, _ count: Int, _ before: (Int32, Int32) -> Bool
  ) {
    func sink(_ start: Int, _ end: Int) {
      var root = start
      while 2 * root + 1 < end {
        var child = 2 * root + 1
        if child + 1 < end, before(values[child], values[child + 1]) { child += 1 }
        if !before(values[root], values[child]) { return }
        let value = values[root]
        values[root] = values[child]
        values[child] = value
        root = child
      }
    }
    for start in stride(from: count / 2 - 1, through: 0, by: -1) { sink(start, count) }
    for end in stride(from: count - 1, to: 0, by: -1) {
      let value = values[0]
      values[0] = values[end]
      values[end] = value
      sink(0, end)
    }
  }
}
