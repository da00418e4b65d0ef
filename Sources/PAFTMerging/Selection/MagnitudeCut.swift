// SPDX-License-Identifier: Apache-2.0

internal import PAFTKernels
internal import Synchronization

/// The exact set of the k entries of largest magnitude, among equals those of lower index. A sample says
/// between which values the threshold must lie, and one pass lists what does and counts what is above
/// (`MagnitudeGuess`). Where the sample cannot tell, or was wrong, it is radix selection on the bits of
/// |v|, which order like the values: one pass counts the upper 15 bits, one the lower 16 of the entries
/// whose upper ones are the threshold's, strip by strip. Only where equals are cut apart is the strip where
/// they run out looked at again. No sorting, no copy, any number of cuts at once, and the same set either way.
struct MagnitudeCut {
  /// Vectors of one length, to be visited as often as it takes.
  struct Series {
    let count: Int
    let lanes: Lanes
    let pool: BlockPool
    /// Calls its argument for every strip, or for that of one number, on the workers.
    let strips: (_ only: Int?, _ body: (Strip) -> Void) -> Void
    /// Calls its argument for these short ranges of one length, some at a time one after the other, by the
    /// number of the first and on the workers.
    let probe: (_ ranges: [Range<Int>], _ body: Step) -> Void
  }
  struct Strip {
    let number: Int
    /// Calls its argument for the blocks in order, with the pointers at each block's first element.
    let visit: (Step) -> Void
    /// The same, with the entries as they are.
    let visitEntries: (_ step: (_ block: Int, _ count: Int, _ entries: Entries) -> Void) -> Void
  }
  typealias Step = (_ block: Int, _ count: Int, _ series: [UnsafePointer<Float>]) -> Void

  /// A block of every series.
  enum Entries {
    case floats([UnsafePointer<Float>])
    /// The deltas of branches.
    case stored(StoredBranches)

    /// `collectBetween` of one series.
    func between(
      _ series: Int, _ count: Int, _ upper: ClosedRange<UInt32>,
      found: UnsafeMutablePointer<UInt32>, above: inout Int, _ kernels: MergingKernels
    ) -> Int {
      switch self {
      case .floats(let values):
        kernels.collectBetween_f32(
          found, &above, values[series], count, upper.lowerBound, upper.upperBound)
      case .stored(let branches):
        kernels.collectBetween_bf16(
          found, &above, branches[series], branches.base, count, upper.lowerBound,
          upper.upperBound)
      }
    }
  }

  /// Bits of the smallest magnitude kept.
  private let threshold: UInt32
  /// Where entries equal to the threshold run out; nil when all are kept.
  private let equals: Equals?

  /// Blocks before `first` keep all equals, the `kept.count` from there on that many, later ones none.
  private struct Equals {
    let first: Int
    let kept: [Int]

    /// Nil for all.
    func kept(in block: Int) -> Int? {
      block < first ? nil : block - first < kept.count ? kept[block - first] : 0
    }
  }

  private static let everything = MagnitudeCut(threshold: 0, equals: nil)
  private static let nothing = MagnitudeCut(threshold: Float.infinity.bitPattern, equals: nil)

  private init(threshold: UInt32, equals: Equals?) {
    self.threshold = threshold
    self.equals = equals
  }

  /// One cut of a series (by its position) of `count` entries, or `k` at least that: everything.
  /// - Parameter guesses: whether a sample may spare a pass, and sorting of few both; the cuts are the same.
  static func find(
    _ wanted: [(series: Int, keep: Int)], in all: Series, guesses: Bool = true
  ) -> [MagnitudeCut] {
    var cuts = wanted.map { $0.keep > 0 ? everything : nothing }
    let open = wanted.indices.filter { wanted[$0].keep > 0 && wanted[$0].keep < all.count }
    guard !open.isEmpty else { return cuts }
    func cut(
      _ i: Int, _ threshold: UInt32, keeping rest: Int, of equals: Int, _ found: (Int) -> Int
    ) -> MagnitudeCut {
      // Zeros are the same kept or dropped.
      guard rest < equals, threshold > 0 else {
        return MagnitudeCut(threshold: threshold, equals: nil)
      }
      let strips = (0..<Lanes.chunks(all.count, of: all.lanes.strip)).map(found)
      return MagnitudeCut(
        threshold: threshold,
        equals: Self.equals(threshold, wanted[i].series, strips, keeping: rest, in: all))
    }
    if guesses, all.count <= few {
      let strips = sizes(in: all)
      for i in open {
        let (series, keep) = wanted[i]
        let sorted = strips.flatMap { $0[series] }.sorted(by: >)
        let threshold = sorted[keep - 1]
        let above = sorted.prefix { $0 > threshold }.count
        cuts[i] = cut(
          i, threshold, keeping: keep - above, of: sorted.count { $0 == threshold }
        ) { strip in strips[strip][series].count { $0 == threshold } }
      }
      return cuts
    }
    if guesses, let found = MagnitudeGuess(open.map { wanted[$0] }, in: all)?.thresholds {
      for (i, place) in zip(open, found) {
        cuts[i] = cut(i, place.threshold, keeping: place.rest, of: place.equals, place.count)
      }
      return cuts
    }
    let series = Set(open.map { wanted[$0].series }).sorted()

    let upper = upperCounts(of: series, in: all)
    var prefix: [UInt32] = []
    var left: [Int] = []
    for i in open {
      let (bin, rest) = descend(
        upper[series.firstIndex(of: wanted[i].series)!], 1 << 15, wanted[i].keep)
      prefix.append(UInt32(bin))
      left.append(rest)
    }
    let lower = lowerCounts(of: open.map { wanted[$0].series }, prefix, in: all)
    for (n, i) in open.enumerated() {
      let totals = all.pool.takeTable()
      defer { all.pool.give(totals) }
      for strip in lower { for (bin, count) in strip[n] { totals.add(Int(count), to: bin) } }
      let (bin, rest) = totals.descend(left[n])
      let threshold = prefix[n] << 16 | UInt32(bin)
      cuts[i] = cut(i, threshold, keeping: rest, of: totals[bin]) { strip in
        lower[strip][n].first { Int($0.bin) == bin }.map { Int($0.count) } ?? 0
      }
    }
    return cuts
  }

  /// Entries that are sorted in less time than it takes to clear tables.
  private static let few = 1 << 12

  /// The magnitudes of every series in every strip, as bits.
  private static func sizes(in all: Series) -> [[[UInt32]]] {
    let strips = Mutex(
      [[[UInt32]]](repeating: [], count: Lanes.chunks(all.count, of: all.lanes.strip)))
    all.strips(nil) { strip in
      var sizes: [[UInt32]] = []
      strip.visit { _, count, values in
        if sizes.isEmpty { sizes = values.map { _ in [] } }
        for (n, x) in values.enumerated() {
          sizes[n] += (0..<count).map { x[$0].bitPattern & 0x7FFF_FFFF }
        }
      }
      strips.withLock { $0[strip.number] = sizes }
    }
    return strips.withLock { $0 }
  }

  /// From the largest bin down to the one that holds the wanted entry, and how many of it are wanted.
  static func descend<Count: FixedWidthInteger>(
    _ counts: UnsafePointer<Count>, _ bins: Int, _ wanted: Int
  ) -> (bin: Int, left: Int) {
    var (bin, left) = (bins - 1, wanted)
    while bin > 0, counts[bin] < left {
      left -= Int(counts[bin])
      bin -= 1
    }
    return (bin, left)
  }

  // MARK: - Passes

  private static func upperCounts(of series: [Int], in all: Series) -> [[Int]] {
    // Tables of all strips a worker counted; their sums do not depend on who that was.
    let round = Mutex<(tallies: [Tally], totals: [[Int]])>(
      ([], series.map { _ in [Int](repeating: 0, count: 1 << 15) }))
    func empty(_ tally: Tally, into totals: inout [[Int]]) {
      for n in series.indices {
        let table = tally.table(n)
        totals[n].withUnsafeMutableBufferPointer { total in
          for bin in 0..<(1 << 15) { total[bin] += Int(table[bin]) }
        }
        table.update(repeating: 0, count: 1 << 15)
      }
      tally.entries = 0
    }
    all.strips(nil) { strip in
      let tally =
        round.withLock { $0.tallies.popLast() } ?? all.pool.takeTally(series.count, all.lanes.block)
      strip.visit { _, count, values in
        for (n, s) in series.enumerated() {
          all.lanes.merging.histogram_f32(tally.table(n), values[s], count)
        }
        tally.entries += count
      }
      round.withLock { round in
        if tally.entries > 1 << 30 { empty(tally, into: &round.totals) }
        round.tallies.append(tally)
      }
    }
    return round.withLock { round in
      for tally in round.tallies {
        empty(tally, into: &round.totals)
        all.pool.give(tally)
      }
      return round.totals
    }
  }

  private typealias Bin = (bin: UInt16, count: UInt32)

  /// For every strip and every cut the lower halves that occur with the cut's prefix: of BF16 models
  /// some hundred different ones, of others about as many as there are matches, half a percent.
  private static func lowerCounts(of series: [Int], _ prefix: [UInt32], in all: Series) -> [[[Bin]]]
  {
    let strips = Mutex(
      [[[Bin]]](
        repeating: [], count: Lanes.chunks(all.count, of: all.lanes.strip)))
    all.strips(nil) { strip in
      let tally = all.pool.takeTally(series.count, all.lanes.block)
      strip.visit { _, count, values in
        for n in series.indices {
          let found = all.lanes.merging.collect_f32(
            tally.matches, values[series[n]], count, prefix[n])
          tally.count(found, in: n)
        }
      }
      let bins = series.indices.map { tally.bins($0) }
      strips.withLock { $0[strip.number] = bins }
      all.pool.give(tally)
    }
    return strips.withLock { $0 }
  }

  /// Where the first `keep` of the entries equal to the threshold end, of which the strips have `found`.
  private static func equals(
    _ threshold: UInt32, _ series: Int, _ found: [Int], keeping keep: Int, in all: Series
  ) -> Equals {
    var (strip, left) = (0, keep)
    while found[strip] <= left {
      left -= found[strip]
      strip += 1
    }
    let kept = Mutex([Int]())
    all.strips(strip) { strip in
      let room = all.pool.takeRoom(all.lanes.block)
      var above = 0
      strip.visitEntries { _, count, entries in
        let near = entries.between(
          series, count, threshold >> 16...threshold >> 16, found: room.sizes, above: &above,
          all.lanes.merging)
        var equals = 0
        for i in 0..<near where room.sizes[i] == threshold { equals &+= 1 }
        kept.withLock { $0.append(equals) }
      }
      all.pool.give(room)
    }
    return Equals(
      first: strip * (all.lanes.strip / all.lanes.block),
      kept: kept.withLock { found in
        found.map { found in
          let kept = min(found, left)
          left -= kept
          return kept
        }
      })
  }

  // MARK: - Using it

  /// The magnitude below which entries of a block are to be zeros; nil where only some of those equal to
  /// the threshold stay.
  func floor(in block: Int) -> Float? {
    guard let left = equals?.kept(in: block) else { return Float(bitPattern: threshold) }
    return left == 0 ? Float(bitPattern: threshold + 1) : nil
  }

  /// The same for every block: such equals are zeroed here.
  func floor(_ values: UnsafeMutablePointer<Float>, block: Int, count: Int) -> Float {
    if let floor = floor(in: block) { return floor }
    var left = equals?.kept(in: block) ?? 0
    for i in 0..<count where values[i].bitPattern & 0x7FFF_FFFF == threshold {
      if left == 0 { values[i] = 0 } else { left &-= 1 }
    }
    return Float(bitPattern: threshold)
  }

  /// Zeros what is kept in one block.
  func drop(_ values: UnsafeMutablePointer<Float>, block: Int, count: Int) {
    var left = equals?.kept(in: block) ?? count
    for i in 0..<count {
      let bits = values[i].bitPattern & 0x7FFF_FFFF
      if bits > threshold {
        values[i] = 0
      } else if bits == threshold, left > 0 {
        left &-= 1
        values[i] = 0
      }
    }
  }

  // MARK: - Whole vectors

  init(_ values: UnsafePointer<Float>, count: Int, keeping k: Int, _ lanes: Lanes) {
    self = Self.find([(0, k)], in: Self.series(values, count, lanes))[0]
  }

  private static func series(_ values: UnsafePointer<Float>, _ count: Int, _ lanes: Lanes) -> Series
  {
    Series(
      count: count, lanes: lanes, pool: BlockPool(),
      strips: { only, body in
        lanes.overChunks(count, of: lanes.strip, only: only) { number, strip in
          func visit(_ step: Step) {
            var start = strip.lowerBound
            while start < strip.upperBound {
              let end = min(start + lanes.block, strip.upperBound)
              step(start / lanes.block, end - start, [values + start])
              start = end
            }
          }
          body(
            Strip(number: number, visit: visit) { step in visit { step($0, $1, .floats($2)) } })
        }
      },
      probe: { ranges, body in
        for (i, range) in ranges.enumerated() {
          body(i, range.count, [values + range.lowerBound])
        }
      })
  }

  /// The smallest of the k largest magnitudes, k in 1...count.
  static func smallest(
    _ values: UnsafePointer<Float>, count: Int, ofLargest k: Int, _ lanes: Lanes
  ) -> Float {
    if k < count {
      return Float(
        bitPattern: MagnitudeCut(values, count: count, keeping: max(k, 1), lanes).threshold)
    }
    return lanes.collect(count, Float.infinity) { range in
      range.reduce(Float.infinity) { min($0, abs(values[$1])) }
    }.reduce(.infinity, min)
  }
}
