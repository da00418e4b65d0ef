// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTKernels

/// Ways to thin a delta out before it is merged. All work in place; density >= 1 changes nothing.
enum Sparsifier: Sendable {
  case none
  /// Keep the int(density * n) largest magnitudes, at least one (TIES).
  case magnitude
  /// Keep each entry with probability density (DARE).
  case random
  /// Drop the int(gamma * n) largest and as many of the smallest as density asks (breadcrumbs).
  case outliers
  /// Keep with a probability that grows with the rank of the magnitude in its row (DELLA).
  case ranked
}

/// What makes up for the dropped entries.
enum Rescale: Int, Sendable {
  static let words = ["l1_match", "inverse_density", "inverse_prob"]

  /// Keeps the sum of magnitudes.
  case l1Match
  /// 1 / density, so that the expectation is kept (the DARE paper).
  case inverseDensity
  /// 1 / p of each kept entry (the DELLA paper).
  case inverseProbability
}

extension Sparsifier {
  /// How many entries `density` keeps of `count`: the double product, truncated.
  static func kept(_ density: Double, of count: Int) -> Int {
    guard density > 0 else { return 0 }
    return density >= 1 ? count : Int(density * Double(count))
  }

  /// Settles what becomes of each model's delta, by visiting the blocks as often as it takes. Density
  /// >= 1 changes nothing. `rescale` nil leaves the survivors as they are.
  func settle(_ task: MergeTask, _ blocks: TensorBlocks, rescale: Rescale?) throws(Fault)
    -> [Thinning]
  {
    var thinnings = task.modelParameters.map { _ in Thinning() }
    if case .none = self { return thinnings }
    let thinned = task.modelParameters.indices.filter { task.modelParameters[$0]["density"] < 1 }
    guard !thinned.isEmpty else { return thinnings }
    if case .random = self {
      for i in thinned {
        // word / 2^32 < density, asked of the words themselves; the product is exact.
        let density = max(0, task.modelParameters[i]["density"])
        thinnings[i].random = task.random.stream(i)
        thinnings[i].limit = UInt64((density * 0x1p32).rounded(.up))
        // Two passes ask for the draws; remembering costs an eighth of a byte, drawing again some more.
        if rescale == .l1Match, task.count / 8 * thinned.count <= Self.remembered,
          blocks.lanes.block % 8 == 0
        {
          thinnings[i].drawn = DrawnBits(task.count)
        }
      }
    } else {
      try settleCuts(thinned, &thinnings, task, blocks)
    }
    switch rescale {
    case .l1Match:
      let parts = try Self.sums(thinned, thinnings, blocks)
      for (n, i) in thinned.enumerated() {
        let before = parts.reduce(0) { $0 + $1[n].before }
        let after = parts.reduce(0) { $0 + $1[n].after }
        if before >= 1e-7, after >= 1e-7 { thinnings[i].factor = Float(before / after) }
      }
    case .inverseDensity, .inverseProbability:
      for i in thinned where task.modelParameters[i]["density"] > 0 {
        thinnings[i].factor = Float(1 / task.modelParameters[i]["density"])
      }
    case nil: break
    }
    return thinnings
  }

  /// Magnitudes of the thinned models before and after, strip by strip; fills what draws are remembered.
  private static func sums(
    _ thinned: [Int], _ thinnings: [Thinning], _ blocks: TensorBlocks
  ) throws(Fault) -> [[(before: Double, after: Double)]] {
    let (lanes, zeros) = (blocks.lanes, thinned.map { _ in (before: 0.0, after: 0.0) })
    guard blocks.stored != nil, thinned.allSatisfy({ thinnings[$0].drawn != nil }) else {
      return try blocks.collect(zeros) { block, sums in
        for (n, i) in thinned.enumerated() {
          let delta = block.models[i]
          thinnings[i].draw(block, lanes)
          sums[n].before += lanes.vectors.sumAbsolute_f32(delta, block.count)
          thinnings[i].apply(to: delta, block, lanes, scaled: false)
          sums[n].after += lanes.vectors.sumAbsolute_f32(delta, block.count)
        }
      }
    }
    return try blocks.collectStored(zeros) { block, sums in
      for (n, i) in thinned.enumerated() {
        let (before, after) = thinnings[i].drawSums(block, i, lanes)
        sums[n].before += before
        sums[n].after += after
      }
    }
  }

  /// Bytes of draws kept for a tensor at most.
  private static let remembered = 256 << 20

  /// Breadcrumbs: descending, positions n_top ..< n - n_bot stay: the top n - n_bot without the top
  /// n_top.
  private func settleCuts(
    _ thinned: [Int], _ thinnings: inout [Thinning], _ task: MergeTask, _ blocks: TensorBlocks
  ) throws(Fault) {
    var wanted: [(series: Int, keep: Int)] = []
    for i in thinned {
      let kept = Self.kept(task.modelParameters[i]["density"], of: task.count)
      if case .outliers = self {
        var top = Self.kept(task.modelParameters[i]["gamma"], of: task.count)
        var bottom = task.count - kept - top
        if bottom < 0 {
          top += bottom
          bottom = 0
        }
        wanted += [(i, task.count - bottom), (i, top)]
      } else {
        let isAny = task.modelParameters[i]["density"] > 0
        wanted.append((i, isAny ? max(1, kept) : 0))
      }
    }
    var failure: Fault?
    let cuts = withoutActuallyEscaping({ (fault: Fault) in failure = fault }) { fail in
      let series = MagnitudeCut.Series(
        count: task.count, lanes: blocks.lanes, pool: blocks.pool,
        strips: { only, body in
          do throws(Fault) {
            try blocks.strips(only: only) { (strip) throws(Fault) in
              body(
                MagnitudeCut.Strip(number: strip.number) { step in
                  strip.visit { step($0.number, $0.count, $0.operands) }
                } visitEntries: { step in
                  if blocks.stored == nil {
                    strip.visit { step($0.number, $0.count, .floats($0.operands)) }
                  } else {
                    strip.visitStored { step($0.number, $0.count, .stored($0.branches)) }
                  }
                })
            }
          } catch { fail(error) }
        },
        probe: { ranges, body in
          blocks.probe(ranges) { number, block in body(number, block.count, block.operands) }
        })
      return MagnitudeCut.find(wanted, in: series)
    }
    if let failure { throw failure }
    let each = wanted.count / thinned.count
    for (n, i) in thinned.enumerated() {
      thinnings[i].kept = cuts[n * each]
      if each == 2 { thinnings[i].dropped = cuts[n * each + 1] }
    }
  }

  /// p = density - epsilon + 2 * epsilon * rank / (R - 1) inside each row of R entries, ranks by
  /// ascending magnitude, equals by index; a row of one entry has p = density.
  static func keepProbability(rank: Int, of length: Int, _ density: Double, _ epsilon: Double)
    -> Double
  {
    length < 2 ? density : density - epsilon + 2 * epsilon * Double(rank) / Double(length - 1)
  }

  /// DELLA, in place.
  static func thinByRank(
    _ delta: UnsafeMutablePointer<Float>, _ task: MergeTask, _ parameters: ParameterValues,
    random: CounterRandom, rescale: Rescale?
  ) throws(Fault) {
    let (density, epsilon) = (parameters["density"], parameters["epsilon"])
    guard density < 1 else { return }
    let (count, lanes) = (task.count, task.lanes)
    let before = rescale == .l1Match ? l1(delta, count, lanes) : 0
    try dropByRank(
      delta, task, density, epsilon, random, divide: rescale == .inverseProbability)
    switch rescale {
    case .l1Match:
      let after = l1(delta, count, lanes)
      if before >= 1e-7, after >= 1e-7 { scale(delta, count, before / after, lanes) }
    case .inverseDensity where density > 0: scale(delta, count, 1 / density, lanes)
    default: return
    }
  }

  private static func dropByRank(
    _ delta: UnsafeMutablePointer<Float>, _ task: MergeTask, _ density: Double, _ epsilon: Double,
    _ random: CounterRandom, divide: Bool
  ) throws(Fault) {
    guard density > 0 else {
      task.lanes.overChunks(task.count) { _, range in for i in range { delta[i] = 0 } }
      return
    }
    guard density - epsilon > 0, density + epsilon < 1 else {
      throw Fault(
        .configuration,
        "della: density \(density) with epsilon \(epsilon) leaves the range 0 to 1 for \(task.name)",
        hint: "epsilon must be smaller than density and than 1 - density")
    }
    let length = task.rowLength
    guard length > 0 else { return }
    task.lanes.forEach(task.count / length) { row in
      let start = row * length
      var order = Array(start..<(start + length))
      order.sort { a, b in
        let (x, y) = (abs(delta[a]), abs(delta[b]))
        return x != y ? x < y : a < b
      }
      for (rank, i) in order.enumerated() {
        let probability = Self.keepProbability(rank: rank, of: length, density, epsilon)
        if random.uniform(UInt64(i)) >= probability {
          delta[i] = 0
        } else if divide {
          delta[i] /= Float(probability)
        }
      }
    }
  }
}

/// What is done to one model's delta, block by block; nothing unless said.
struct Thinning: Sendable {
  var kept: MagnitudeCut?
  /// Taken out of what is kept.
  var dropped: MagnitudeCut?
  var random: CounterRandom?
  /// Words below it keep their entry.
  var limit: UInt64 = 0
  /// What was drawn, where it is kept.
  var drawn: DrawnBits?
  var factor: Float = 1

  /// Fills `drawn` for a block.
  func draw(_ block: TensorBlock, _ lanes: Lanes) {
    guard let random, let drawn else { return }
    lanes.merging.draw_bits(
      drawn.place(block.range.lowerBound), block.count, random.key, block.range.lowerBound, limit)
  }

  func apply(
    to delta: UnsafeMutablePointer<Float>, _ block: TensorBlock, _ lanes: Lanes, scaled: Bool
  ) {
    let count = block.count
    if let kept {
      let floor = kept.floor(delta, block: block.number, count: count)
      lanes.merging.cut_f32(delta, floor, count)
    }
    // After the other: where both cuts have one threshold, each counts the equals from the front.
    dropped?.drop(delta, block: block.number, count: count)
    if let drawn {
      lanes.merging.keep_f32(delta, drawn.place(block.range.lowerBound), count)
    } else if let random {
      lanes.merging.thin_f32(delta, count, random.key, block.range.lowerBound, limit)
    }
    if scaled, factor != 1 { lanes.vectors.scale_f32(delta, factor, count) }
  }

  /// Fills `drawn` for a block of one branch; magnitudes before and after.
  func drawSums(_ block: StoredBlock, _ model: Int, _ lanes: Lanes) -> (
    before: Double, after: Double
  ) {
    guard let random, let drawn else { preconditionFailure("draws are not remembered") }
    let (branches, start) = (block.branches, block.range.lowerBound)
    var sums = [0.0, 0.0]
    lanes.merging.drawSums_bf16(
      drawn.place(start), &sums, branches[model], branches.base, block.count, random.key, start,
      limit)
    return (sums[0], sums[1])
  }

  /// Where remembered draws, a factor and this are all there is to do: by the number of a block, the
  /// magnitude below which entries count as zeros. That is nil where only some of several equals go.
  var floorInBlock: ((_ block: Int) -> Float?)? {
    guard dropped == nil, random == nil || drawn != nil else { return nil }
    guard let kept else { return { _ in 0 } }
    return { kept.floor(in: $0) }
  }

  /// The same as `apply`, or what is left to do of it: the magnitude below which entries count as zeros.
  func floor(
    of delta: UnsafeMutablePointer<Float>, _ block: TensorBlock, _ lanes: Lanes
  ) -> Float {
    guard let kept, dropped == nil, random == nil, factor == 1 else {
      apply(to: delta, block, lanes, scaled: true)
      return 0
    }
    return kept.floor(delta, block: block.number, count: block.count)
  }
}

/// A bit for each entry of a tensor: whether it stays.
final class DrawnBits: @unchecked Sendable {
  // Sendable: every worker has bytes of its own, those of its blocks.
  private let bits: UnsafeMutablePointer<UInt8>

  init(_ count: Int) { bits = .allocate(capacity: count / 8 + 1) }
  deinit { bits.deallocate() }

  /// Of an entry whose number is a multiple of 8.
  func place(_ entry: Int) -> UnsafeMutablePointer<UInt8> { bits + entry / 8 }
}

private func l1(_ values: UnsafePointer<Float>, _ count: Int, _ lanes: Lanes) -> Double {
  lanes.sum(count) { lanes.vectors.sumAbsolute_f32(values + $0.lowerBound, $0.count) }
}

private func scale(
  _ values: UnsafeMutablePointer<Float>, _ count: Int, _ factor: Double, _ lanes: Lanes
) {
  let factor = Float(factor)
  lanes.overChunks(count) { _, range in for i in range { values[i] *= factor } }
}
