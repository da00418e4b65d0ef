// SPDX-License-Identifier: Apache-2.0

/// A text on its way through the pre-tokenizers: bytes and the pieces they are cut into, in order.
/// Pieces never overlap and are never empty; bytes outside every piece are dropped.
struct Pieces {
  var bytes: [UInt8]
  var ranges: [Range<Int>]
  /// The first piece begins where the user's text begins (no special token stands before it).
  let startsText: Bool

  init(_ bytes: [UInt8], startsText: Bool) {
    self.bytes = bytes
    self.startsText = startsText
    ranges = bytes.isEmpty ? [] : [0..<bytes.count]
  }

  /// What becomes of the delimiters when a piece is split at them.
  enum Behavior: String, CaseIterable {
    case removed = "Removed"
    case isolated = "Isolated"
    case mergedWithPrevious = "MergedWithPrevious"
    case mergedWithNext = "MergedWithNext"
    case contiguous = "Contiguous"
  }

  /// Cuts every piece. `cut` reports the delimiters of one piece: ranges relative to the piece, in
  /// order. With `invert` the delimiters are what lies between the reported ranges.
  mutating func split<Failure: Error>(
    _ behavior: Behavior, invert: Bool = false,
    at cut: (UnsafeBufferPointer<UInt8>, (Range<Int>) -> Void) throws(Failure) -> Void
  ) throws(Failure) {
    var result: [Range<Int>] = []
    result.reserveCapacity(ranges.count)
    try bytes.withUnsafeBufferPointer { (bytes) throws(Failure) in
      for range in ranges {
        var cutter = Cutter(behavior, invert: invert, base: range.lowerBound)
        try cut(UnsafeBufferPointer(rebasing: bytes[range])) { cutter.found($0, &result) }
        cutter.finish(range.count, &result)
      }
    }
    ranges = result
  }

  /// Rewrites the text of every piece.
  mutating func rewrite(_ body: (_ piece: ArraySlice<UInt8>, _ into: inout [UInt8]) -> Void) {
    var rewritten: [UInt8] = []
    rewritten.reserveCapacity(bytes.count + 16)
    for i in ranges.indices {
      let start = rewritten.count
      body(bytes[ranges[i]], &rewritten)
      ranges[i] = start..<rewritten.count
    }
    bytes = rewritten
    ranges.removeAll { $0.isEmpty }
  }
}

/// Turns the delimiters of one piece into pieces.
private struct Cutter {
  private let behavior: Pieces.Behavior
  private let invert: Bool
  private let base: Int
  private var done = 0
  /// The piece not yet final: a delimiter that the next stretch joins, or the reverse.
  private var pending: Range<Int>?
  private var pendingIsDelimiter = false

  init(_ behavior: Pieces.Behavior, invert: Bool, base: Int) {
    self.behavior = behavior
    self.invert = invert
    self.base = base
  }

  mutating func found(_ match: Range<Int>, _ out: inout [Range<Int>]) {
    if done < match.lowerBound { take(done..<match.lowerBound, delimiter: invert, &out) }
    take(match, delimiter: !invert, &out)
    done = match.upperBound
  }

  mutating func finish(_ count: Int, _ out: inout [Range<Int>]) {
    if done < count { take(done..<count, delimiter: invert, &out) }
    flush(&out)
  }

  private mutating func take(_ range: Range<Int>, delimiter: Bool, _ out: inout [Range<Int>]) {
    let joins: Bool
    switch behavior {
    case .removed:
      if !delimiter { emit(range, &out) }
      return
    case .isolated:
      emit(range, &out)
      return
    case .mergedWithPrevious: joins = delimiter && !pendingIsDelimiter
    case .mergedWithNext: joins = pendingIsDelimiter && !delimiter
    case .contiguous: joins = delimiter == pendingIsDelimiter
    }
    if joins, let before = pending {
      pending = before.lowerBound..<range.upperBound
      pendingIsDelimiter = behavior == .mergedWithNext ? false : delimiter
    } else {
      flush(&out)
      pending = range
      pendingIsDelimiter = delimiter
    }
  }

  private mutating func flush(_ out: inout [Range<Int>]) {
    if let pending { emit(pending, &out) }
    pending = nil
    pendingIsDelimiter = false
  }

  private func emit(_ range: Range<Int>, _ out: inout [Range<Int>]) {
    if !range.isEmpty { out.append(base + range.lowerBound..<base + range.upperBound) }
  }
}
