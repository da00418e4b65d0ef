// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTKernels
internal import Synchronization

/// Thresholds of magnitude found in one pass: a sample says between which values they lie in all
/// likelihood, and the pass counts the entries there by value and those above all together. The
/// counts tell whether it was so; then the thresholds are exact.
struct MagnitudeGuess {
  struct Place {
    let threshold: UInt32
    /// Entries equal to the threshold: how many there are, and how many of them are kept.
    let equals: Int
    let rest: Int
    /// How many a strip has.
    let count: (_ strip: Int) -> Int
  }

  /// In the order wanted.
  let thresholds: [Place]

  /// Nil where the sample cannot tell (few entries, or many equals), or was wrong.
  init?(_ wanted: [(series: Int, keep: Int)], in all: MagnitudeCut.Series) {
    guard let brackets = Self.brackets(wanted, in: all) else { return nil }
    let strips = Self.look(wanted.map(\.series), brackets, in: all)
    var places: [Place] = []
    for (n, bracket) in brackets.enumerated() {
      let left = wanted[n].keep - strips.reduce(0) { $0 + $1[n].above }
      // First the upper half of the threshold, then the lower: no table of all that lies between.
      var upper = [Int](repeating: 0, count: bracket.count)
      for strip in strips {
        for value in strip[n].values { upper[Int(value.offset >> 16)] += Int(value.count) }
      }
      guard left > 0, left <= upper.reduce(0, +) else { return nil }
      let (bin, below) = MagnitudeCut.descend(upper, upper.count, left)
      let lower = all.pool.takeTable()
      defer { all.pool.give(lower) }
      for strip in strips {
        for value in strip[n].values where Int(value.offset >> 16) == bin {
          lower.add(Int(value.count), to: UInt16(truncatingIfNeeded: value.offset))
        }
      }
      let (end, rest) = lower.descend(below)
      let offset = UInt32(bin << 16 + end)
      places.append(
        Place(threshold: bracket.lowerBound << 16 + offset, equals: lower[end], rest: rest) {
          strip in
          strips[strip][n].values.first { $0.offset == offset }.map { Int($0.count) } ?? 0
        })
    }
    thresholds = places
  }

  // MARK: - The sample

  /// Neighbours that are read together: a line of floats and a half, two of half precision.
  private static let stretch = 32
  /// Below it, counting everything is as fast.
  static let fewest = 1 << 16
  /// More than this share of all entries between: a histogram of everything costs no more.
  private static let mostBetween = 0.25
  /// Upper halves in a bracket at most, below 32: each is 256 kB of a table for every worker.
  private static let widest = 24
  /// Stretches in a sample at least: half of a wide distribution is then known within 1.2 percent, some
  /// ten upper halves. Fewer cost many tensors the second pass.
  private static let fewestStretches = 1024

  /// Upper halves of the magnitudes between which the thresholds lie: four standard errors of the
  /// sampled rank to both sides. The error is taken from how much the stretches differ, for neighbours
  /// in a row are more alike than strangers.
  private static func brackets(
    _ wanted: [(series: Int, keep: Int)], in all: MagnitudeCut.Series
  ) -> [ClosedRange<UInt32>]? {
    guard all.count >= fewest else { return nil }
    let number = min(max(all.count / 16_384, fewestStretches), 1 << 15)
    let (stride, random) = (all.count / number, CounterRandom(seed: 1))
    // One stretch in each of so many equal parts, anywhere in it.
    let ranges = (0..<number).map { part in
      let start = part * stride + random.integer(UInt64(part), below: stride - stretch + 1)
      return start..<(start + stretch)
    }
    let series = Set(wanted.map(\.series)).sorted()
    let samples = series.map { _ in
      UnsafeMutablePointer<Float>.allocate(capacity: number * stretch)
    }
    defer { for sample in samples { sample.deallocate() } }
    all.probe(ranges) { first, count, values in
      for (sample, s) in zip(samples, series) {
        (sample + first * stretch).update(from: values[s], count: count)
      }
    }
    var brackets: [ClosedRange<UInt32>] = []
    for (s, keep) in wanted {
      let sample = samples[series.firstIndex(of: s)!]
      guard let bracket = bracket(sample, number, Double(keep) / Double(all.count), all.lanes)
      else { return nil }
      brackets.append(bracket)
    }
    return brackets
  }

  private static func bracket(
    _ sample: UnsafePointer<Float>, _ number: Int, _ density: Double, _ lanes: Lanes
  ) -> ClosedRange<UInt32>? {
    let total = number * stretch
    var table = [UInt32](repeating: 0, count: 1 << 15)
    lanes.merging.histogram_f32(&table, sample, total)
    let rank = density * Double(total)
    let center = MagnitudeCut.descend(table, table.count, max(1, Int(rank))).bin
    // The largest value that is not of it or above.
    let below = Float(bitPattern: UInt32(center) << 16).nextDown
    var (sum, squares) = (0.0, 0.0)
    for part in 0..<number {
      let above = lanes.merging.countBeyond_f32(sample + part * stretch, below, stretch)
      sum += Double(above)
      squares += Double(above) * Double(above)
    }
    let n = Double(number)
    let variance = max(0, squares - sum * sum / n) / (n - 1)
    // Of the number above, in entries of the sample; a few more for the tails.
    let margin = 4 * (n * variance).squareRoot() + 16
    func bin(_ rank: Double) -> Int {
      MagnitudeCut.descend(table, table.count, Int(rank)).bin
    }
    let low = Int(rank + margin) < total ? bin(rank + margin) : 0
    let high = rank - margin >= 1 ? bin(rank - margin) : 0x7F7F
    guard low <= high, high - low < widest,
      Double(table[low...high].reduce(0) { $0 + Int($1) }) <= mostBetween * Double(total)
    else { return nil }
    return UInt32(low)...UInt32(high)
  }

  // MARK: - The pass

  private struct Found {
    var above = 0
    /// Counts by the distance from the bracket's lower end, of BF16 models a few.
    var values: [(offset: UInt32, count: UInt32)] = []
  }

  /// A counter for every size in a bracket.
  static let tableBytes = 4 << 21

  /// Counts of one bracket for one worker, all zero between strips.
  fileprivate final class Table {
    // What is touched may lie all over it.
    private let memory = HugePages(tableBytes)
    private let counts: UnsafeMutablePointer<UInt32>
    private var touched: [UInt32] = []

    init() { counts = memory.start.bindMemory(to: UInt32.self, capacity: tableBytes / 4) }

    /// The lowest bits count most: deltas of BF16 models seldom have any, and their counts lie in a few
    /// kilobytes, where by size they would be one to a page.
    private static func place(_ offset: UInt32) -> Int {
      Int((offset & 0xFF) << 13 | offset >> 8)
    }

    func add(_ sizes: UnsafePointer<UInt32>, _ count: Int, from bracket: ClosedRange<UInt32>) {
      let lower = bracket.lowerBound << 16
      for i in 0..<count {
        let offset = sizes[i] &- lower
        let place = Self.place(offset)
        let before = counts[place]
        if before == 0 { touched.append(offset) }
        counts[place] = before &+ 1
      }
    }

    func take() -> [(offset: UInt32, count: UInt32)] {
      let found = touched.map { offset in (offset: offset, count: counts[Self.place(offset)]) }
      for offset in touched { counts[Self.place(offset)] = 0 }
      touched.removeAll(keepingCapacity: true)
      return found
    }
  }

  /// What one worker needs, kept from tensor to tensor.
  final class Room: @unchecked Sendable {
    // Sendable: of one worker at a time.
    private var tables: [Table] = []
    let sizes: UnsafeMutablePointer<UInt32>

    init(_ block: Int) { sizes = .allocate(capacity: block + 15) }
    deinit { sizes.deallocate() }

    fileprivate func table(_ n: Int) -> Table {
      while tables.count <= n { tables.append(Table()) }
      return tables[n]
    }
  }

  /// For every strip and every bracket what lies in it and how many entries are above.
  private static func look(
    _ series: [Int], _ brackets: [ClosedRange<UInt32>], in all: MagnitudeCut.Series
  ) -> [[Found]] {
    let strips = Mutex(
      [[Found]](repeating: [], count: Lanes.chunks(all.count, of: all.lanes.strip)))
    all.strips(nil) { strip in
      let room = all.pool.takeRoom(all.lanes.block)
      var above = series.map { _ in 0 }
      strip.visitEntries { _, count, entries in
        for (n, bracket) in brackets.enumerated() {
          let found = entries.between(
            series[n], count, bracket, found: room.sizes, above: &above[n], all.lanes.merging)
          room.table(n).add(room.sizes, found, from: bracket)
        }
      }
      let found = series.indices.map { Found(above: above[$0], values: room.table($0).take()) }
      strips.withLock { $0[strip.number] = found }
      all.pool.give(room)
    }
    return strips.withLock { $0 }
  }
}
