// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
package import PAFTFormats
internal import PAFTKernels
internal import Synchronization

/// What the deltas of a merge looked like, by kind of tensor (`q_proj`, `embed_tokens`, …), by layer and
/// in all: how long, how sparse, how much they point the same way or against each other; where that is
/// asked for, also what thinning and settling signs made of that.
package struct MergeReport: Sendable {
  /// Sums over the tensors of one group.
  package struct Group: Sendable {
    package let name: String
    package fileprivate(set) var elements = 0
    fileprivate var squares: [Double]
    package fileprivate(set) var sparsity: [SparsityCounts]
    fileprivate var resultSquares = 0.0
    fileprivate var hasResult = false
    /// For each pair i < j in order (0,1), (0,2), …: the dot product, and how many entries both
    /// change, with opposite signs or at all.
    fileprivate var dots: [Double]
    fileprivate var conflicts: [Int]
    fileprivate var overlaps: [Int]
    /// The same after thinning.
    fileprivate var keptConflicts: [Int]
    fileprivate var keptOverlaps: [Int]
    /// For each model: entries left by thinning; of these, how many the merged delta has too, and how
    /// many of those with the opposite sign.
    fileprivate var kept: [Int]
    fileprivate var carried: [Int]
    fileprivate var opposed: [Int]
    fileprivate var seenAfter = 0

    /// Of nothing.
    static let none = Group("", models: 0)

    fileprivate init(_ name: String, models: Int) {
      self.name = name
      let pairs = models * (models - 1) / 2
      squares = Array(repeating: 0, count: models)
      sparsity = Array(repeating: SparsityCounts(), count: models)
      dots = Array(repeating: 0, count: pairs)
      conflicts = Array(repeating: 0, count: pairs)
      overlaps = Array(repeating: 0, count: pairs)
      keptConflicts = overlaps
      keptOverlaps = overlaps
      kept = Array(repeating: 0, count: models)
      carried = kept
      opposed = kept
    }

    /// Euclidean norms of the models' deltas.
    package var norms: [Double] { squares.map { $0.squareRoot() } }
    /// Euclidean norm of the merged delta; nil where nothing was merged.
    package var resultNorm: Double? { hasResult ? resultSquares.squareRoot() : nil }

    /// Cosine between two deltas; nil when one is zero.
    package func cosine(_ i: Int, _ j: Int) -> Double? {
      let lengths = (squares[i] * squares[j]).squareRoot()
      return lengths > 0 ? dots[pair(i, j)] / lengths : nil
    }

    /// Of the entries both change, the share with opposite signs; nil when there are none.
    package func signConflict(_ i: Int, _ j: Int) -> Double? {
      let overlap = overlaps[pair(i, j)]
      return overlap > 0 ? Double(conflicts[pair(i, j)]) / Double(overlap) : nil
    }

    /// The same of what thinning left; nil where that was not looked at.
    package func keptSignConflict(_ i: Int, _ j: Int) -> Double? {
      let overlap = keptOverlaps[pair(i, j)]
      return overlap > 0 ? Double(keptConflicts[pair(i, j)]) / Double(overlap) : nil
    }

    /// Share of all entries that thinning left of model i.
    package func keptDensity(_ i: Int) -> Double? {
      seenAfter > 0 ? Double(kept[i]) / Double(seenAfter) : nil
    }

    /// Of the entries thinning left of model i, the share that the merged delta has with their sign:
    /// what is missing lost the election, or was cancelled.
    package func carriedShare(_ i: Int) -> Double? {
      kept[i] > 0 ? Double(carried[i] - opposed[i]) / Double(kept[i]) : nil
    }

    fileprivate func pair(_ i: Int, _ j: Int) -> Int {
      let n = squares.count
      return i * (2 * n - i - 1) / 2 + (j - i - 1)
    }
  }

  package let method: String
  package let models: [String]
  /// In the order they were met; empty for methods that use no deltas.
  package private(set) var groups: [Group] = []
  /// The layers by number, and before them what is in none, as `other`.
  package private(set) var layers: [Group] = []
  package private(set) var total: Group

  init(_ configuration: MergeConfiguration) {
    method = configuration.method.name
    let widest = configuration.slices.max {
      configuration.operands(of: $0).count < configuration.operands(of: $1).count
    }
    models = widest.map { configuration.operands(of: $0).map(\.reference.text) } ?? []
    total = Group("all", models: models.count)
  }

  /// `q_proj` of `model.layers.3.self_attn.q_proj.weight`.
  static func group(of tensor: String) -> String {
    let parts = tensor.split(separator: ".")
    guard parts.count > 1 else { return tensor }
    return parts.last == "bias" ? "\(parts[parts.count - 2]).bias" : String(parts[parts.count - 2])
  }

  // MARK: - Collecting

  /// Adds up what blocks look like that are visited for another reason.
  /// - Parameter numbers: which models of the configuration the blocks' models are.
  func observe(_ tensor: String, _ blocks: TensorBlocks, _ numbers: [Int]) -> Observation {
    let observation = Observation(
      Group(tensor, models: models.count), numbers,
      strips: Lanes.chunks(blocks.count, of: blocks.lanes.strip), blocks.lanes.merging)
    blocks.observer = observation
    return observation
  }

  /// Adds up what became of blocks: their models thinned, `out` the merged delta.
  func observeResult(_ tensor: String, _ numbers: [Int], count: Int, _ lanes: Lanes) -> (
    Observation, (TensorBlock, _ strip: Int) -> Void
  ) {
    let empty = Group(tensor, models: models.count)
    let observation = Observation(
      empty, numbers, strips: Lanes.chunks(count, of: lanes.strip), lanes.merging)
    return (
      observation,
      { block, strip in
        var part = empty
        let count = block.count
        part.seenAfter += count
        func signs(_ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>) -> (both: Int, apart: Int)
        {
          var counts = [0, 0]
          lanes.merging.countSigns_f32(&counts, x, y, count)
          return (counts[0], counts[1])
        }
        for (delta, i) in zip(block.models, numbers) {
          part.kept[i] += signs(delta, delta).both
          let (both, apart) = signs(delta, block.out)
          part.carried[i] += both
          part.opposed[i] += apart
        }
        for a in block.models.indices {
          for b in block.models.indices where a < b {
            let pair = part.pair(numbers[a], numbers[b])
            let (both, apart) = signs(block.models[a], block.models[b])
            part.keptOverlaps[pair] += both
            part.keptConflicts[pair] += apart
          }
        }
        observation.add(part, strip: strip)
      }
    )
  }

  /// What one tensor's blocks look like.
  final class Observation: Sendable {
    let empty: Group
    private let numbers: [Int]
    private let kernels: MergingKernels
    /// One for each strip: added up in their order, whoever came first.
    fileprivate let parts: Mutex<[Group]>

    fileprivate init(_ empty: Group, _ numbers: [Int], strips: Int, _ kernels: MergingKernels) {
      self.empty = empty
      self.numbers = numbers
      self.kernels = kernels
      parts = Mutex([Group](repeating: empty, count: max(strips, 1)))
    }

    func add(_ part: Group, strip: Int) { parts.withLock { $0[strip].add(part) } }

    /// Whether all deltas are finite.
    func see(_ block: TensorBlock, into part: inout Group) -> Bool {
      let count = block.count
      part.elements += count
      var isFinite = true
      for (delta, i) in zip(block.models, numbers) {
        let squares = part.sparsity[i].measure(delta, count, kernels)
        part.squares[i] += squares
        isFinite = isFinite && squares.isFinite
      }
      for a in block.models.indices {
        for b in block.models.indices where a < b {
          let pair = part.pair(numbers[a], numbers[b])
          var (dot, signs) = (0.0, [0, 0])
          kernels.relate_f32(&dot, &signs, block.models[a], block.models[b], count)
          part.dots[pair] += dot
          part.overlaps[pair] += signs[0]
          part.conflicts[pair] += signs[1]
        }
      }
      return isFinite
    }

    /// The same of two branches as they are stored.
    func see(_ block: StoredBlock, into part: inout Group) -> Bool {
      let (count, branches, (x, y)) = (block.count, block.branches, (numbers[0], numbers[1]))
      var (sums, counts) = ([0.0, 0.0, 0.0], [Int](repeating: 0, count: 14))
      kernels.survey_bf16(
        &sums, &counts, branches.x, branches.y, branches.base, count, SparsityCounts.limits)
      part.elements += count
      part.squares[x] += sums[0]
      part.squares[y] += sums[1]
      part.sparsity[x].add(counts[0..<6], of: count)
      part.sparsity[y].add(counts[6..<12], of: count)
      let pair = part.pair(x, y)
      part.dots[pair] += sums[2]
      part.overlaps[pair] += counts[12]
      part.conflicts[pair] += counts[13]
      return sums[0].isFinite && sums[1].isFinite
    }
  }

  mutating func add(_ observation: Observation) {
    let parts = observation.parts.withLock { $0 }
    var sum = parts[0]
    for part in parts.dropFirst() { sum.add(part) }
    add(sum)
  }

  mutating func addResult(_ tensor: String, squares: Double) {
    var part = Group(tensor, models: models.count)
    part.resultSquares = squares
    part.hasResult = true
    add(part)
  }

  /// - Parameter part: named after its tensor.
  private mutating func add(_ part: Group) {
    Self.add(part, as: Self.group(of: part.name), to: &groups)
    let layer = LayerName(part.name).map { "\($0.index)" } ?? "other"
    Self.add(part, as: layer, to: &layers)
    total.add(part)
  }

  private static func add(_ part: Group, as name: String, to groups: inout [Group]) {
    if let i = groups.firstIndex(where: { $0.name == name }) { return groups[i].add(part) }
    var group = Group(name, models: part.squares.count)
    group.add(part)
    // Files list layers 10 and 11 before 2.
    let number = Int(name)
    let at = groups.firstIndex { other in
      guard let number, let found = Int(other.name) else { return false }
      return found > number
    }
    groups.insert(group, at: at ?? groups.endIndex)
  }

  // MARK: - Out

  package var json: JSON {
    [
      "method": .string(method), "models": .array(models.map { .string($0) }),
      "all": total.json, "groups": .array(groups.map(\.json)),
      "layers": .array(layers.map(\.json)),
    ]
  }
}

extension MergeReport.Group {
  fileprivate mutating func add(_ other: Self) {
    elements += other.elements
    resultSquares += other.resultSquares
    hasResult = hasResult || other.hasResult
    for i in squares.indices {
      squares[i] += other.squares[i]
      sparsity[i].add(other.sparsity[i])
    }
    for p in dots.indices {
      dots[p] += other.dots[p]
      conflicts[p] += other.conflicts[p]
      overlaps[p] += other.overlaps[p]
      keptConflicts[p] += other.keptConflicts[p]
      keptOverlaps[p] += other.keptOverlaps[p]
    }
    for i in kept.indices {
      kept[i] += other.kept[i]
      carried[i] += other.carried[i]
      opposed[i] += other.opposed[i]
    }
    seenAfter += other.seenAfter
  }

  fileprivate var json: JSON {
    var pairs: [JSON] = []
    for i in squares.indices {
      for j in squares.indices where i < j {
        pairs.append([
          "models": [JSON(i), JSON(j)],
          "cosine": cosine(i, j).map { .number($0) } ?? nil,
          "sign_conflict": signConflict(i, j).map { .number($0) } ?? nil,
          "kept_sign_conflict": keptSignConflict(i, j).map { .number($0) } ?? nil,
        ])
      }
    }
    return [
      "group": .string(name), "elements": JSON(elements),
      "merged_norm": resultNorm.map { .number($0) } ?? nil,
      "models": .array(
        squares.indices.map { i in
          [
            "norm": .number(norms[i]), "sparsity": sparsity[i].json,
            "kept_density": keptDensity(i).map { .number($0) } ?? nil,
            "carried": carriedShare(i).map { .number($0) } ?? nil,
          ]
        }),
      "pairs": .array(pairs),
    ]
  }
}
