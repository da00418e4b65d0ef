// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
internal import PAFTKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// One merge method: a row of the table below and a function of vectors. Everything a method is
/// stands here; reading models, deltas, threads and files are the run's business.
package struct MergeMethod: Sendable {
  /// What the function is given for each model.
  package enum Operands: Sendable {
    /// d_i = x_i - base; the function returns a delta and the run adds the base.
    case deltas
    /// x_i themselves.
    case tensors
    /// d_i when the configuration names a base, else x_i.
    case deltasIfBase
  }

  /// What becomes of the base model among the operands.
  package enum BaseRole: Sendable {
    /// Required, and no operand itself.
    case reference
    /// Not used; it is an operand only if listed.
    case ignored
    /// Must be one of the models, and becomes the first operand.
    case first
    /// May be given; then it is no operand.
    case optional
  }

  package let name: String
  /// arXiv number, empty when there is none.
  package let paper: String
  package let operands: Operands
  package let base: BaseRole
  /// How many models, the base not counted where it is no operand.
  package let models: ClosedRange<Int>
  package let parameters: [MergeParameter]
  /// Density selects int(density * n) entries, which may be none of a small tensor.
  let selectsByMagnitude: Bool
  /// For methods whose entries depend on each other through a few numbers only (sums, thresholds):
  /// settles these by visiting the blocks, and returns what makes each block of the result. Its task
  /// has no vectors. Nil for methods that need whole tensors.
  let stream: (@Sendable (MergeTask, TensorBlocks) throws(Fault) -> Combination)?
  /// Whether tensors that no adapter changes are merged in blocks.
  package var streams: Bool { stream != nil }
  /// Merges vectors in memory.
  package let merge: @Sendable (MergeTask) throws(Fault) -> Void

  /// What makes the blocks of a result.
  struct Combination {
    /// Writes `out` of a block from its base and models, which it may overwrite.
    let fill: (TensorBlock) -> Void
    /// The same in numbers, where it is of this kind and the branches are two.
    var agreement: SignAgreement?
  }

  /// A method on whole vectors.
  init(
    name: String, paper: String, operands: Operands, base: BaseRole, models: ClosedRange<Int>,
    parameters: [MergeParameter], selectsByMagnitude: Bool = false,
    merge: @escaping @Sendable (MergeTask) throws(Fault) -> Void
  ) {
    self.name = name
    self.paper = paper
    self.operands = operands
    self.base = base
    self.models = models
    self.parameters = parameters
    self.selectsByMagnitude = selectsByMagnitude
    stream = nil
    self.merge = merge
  }

  /// A method on blocks.
  init(
    name: String, paper: String, operands: Operands, base: BaseRole, models: ClosedRange<Int>,
    parameters: [MergeParameter], selectsByMagnitude: Bool = false,
    stream: @escaping @Sendable (MergeTask, TensorBlocks) throws(Fault) -> Combination
  ) {
    self.name = name
    self.paper = paper
    self.operands = operands
    self.base = base
    self.models = models
    self.parameters = parameters
    self.selectsByMagnitude = selectsByMagnitude
    self.stream = stream
    merge = { (task) throws(Fault) in
      let blocks = task.blocks()
      try task.fill(blocks, with: stream(task, blocks).fill)
    }
  }

  package static let all: [MergeMethod] =
    TaskArithmetic.methods + [
      linear, passthrough, slerp, nuslerp, multislerp, karcher, modelStock, sce, nearswap,
      arceeFusion, ram, ramPlus,
    ]

  package static func named(_ name: String) -> MergeMethod? { all.first { $0.name == name } }

  /// Parameters any method may carry without effect here: mergekit's memory switch.
  static let ignoredParameters = ["int8_mask"]
}

/// A parameter a method takes from the configuration.
package struct MergeParameter: Sendable {
  package enum Kind: Sendable, Equatable {
    case number
    case flag
    /// One of these words; its value is the position.
    case word([String])
  }

  package let name: String
  package let kind: Kind
  /// Per model, or one for the method.
  package let perModel: Bool
  /// Nil: required.
  package let defaultValue: Double?

  static func model(_ name: String, _ value: Double? = nil, _ kind: Kind = .number) -> Self {
    Self(name: name, kind: kind, perModel: true, defaultValue: value)
  }

  static func global(_ name: String, _ value: Double? = nil) -> Self {
    Self(name: name, kind: .number, perModel: false, defaultValue: value)
  }

  static func flag(_ name: String, _ value: Bool) -> Self {
    Self(name: name, kind: .flag, perModel: false, defaultValue: value ? 1 : 0)
  }

  static func word(_ name: String, _ words: [String]) -> Self {
    Self(name: name, kind: .word(words), perModel: false, defaultValue: 0)
  }
}

/// Values of a method's parameters for one tensor (and one model).
package struct ParameterValues: Sendable, Equatable {
  private var values: [String: Double] = [:]

  package init(_ values: [String: Double] = [:]) { self.values = values }

  /// Every parameter of the method has a value by the time it runs; asking for another is a
  /// programmer's mistake.
  package subscript(name: String) -> Double {
    get { values[name]! }
    set { values[name] = newValue }
  }

  package func flag(_ name: String) -> Bool { self[name] != 0 }
}

/// One output tensor to be merged: vectors of `count` floats, row-major in `shape`.
package struct MergeTask {
  package let name: String
  package let shape: [Int]
  package let count: Int
  /// Nil for methods without a base.
  package let base: UnsafePointer<Float>?
  /// Deltas or tensors, as the method asked; methods may overwrite them. None when the tensor is
  /// streamed.
  package let models: [UnsafeMutablePointer<Float>]
  package let out: UnsafeMutablePointer<Float>
  /// One for each model.
  package let modelParameters: [ParameterValues]
  package let parameters: ParameterValues
  /// Keyed by seed and tensor; `stream(model)` gives each model its own.
  package let random: CounterRandom
  package let lanes: Lanes
  /// Of whoever merges many tensors.
  let pool: BlockPool
  /// Leave the models of a block as thinning made them, for those who look at them afterwards.
  let showsThinned: Bool

  package init(
    name: String, shape: [Int], count: Int, base: UnsafePointer<Float>?,
    models: [UnsafeMutablePointer<Float>], out: UnsafeMutablePointer<Float>,
    modelParameters: [ParameterValues], parameters: ParameterValues, random: CounterRandom,
    lanes: Lanes, pool: BlockPool = BlockPool(), showsThinned: Bool = false
  ) {
    self.name = name
    self.shape = shape
    self.count = count
    self.base = base
    self.models = models
    self.out = out
    self.modelParameters = modelParameters
    self.parameters = parameters
    self.random = random
    self.lanes = lanes
    self.pool = pool
    self.showsThinned = showsThinned
  }

  func weights(_ name: String = "weight") -> [Double] { modelParameters.map { $0[name] } }

  /// Length of the last dimension; a vector is one row, as is a scalar.
  var rowLength: Int { shape.last ?? 1 }

  /// out = SUM c_i * model_i.
  func combine(_ coefficients: [Double]) {
    let factors = coefficients.map { Float($0) }
    lanes.overChunks(count, of: lanes.block) { _, range in
      let starts = models.map { UnsafePointer($0) + range.lowerBound }
      lanes.merging.combine_f32(
        out + range.lowerBound, starts, factors, starts.count, range.count)
    }
  }
}

// MARK: - Blocks

extension MergeTask {
  /// The task's own vectors as blocks.
  func blocks() -> TensorBlocks {
    TensorBlocks(count: count, models: models.count, lanes: lanes, pool: pool) { block, _, _ in
      let (start, size) = (block.range.lowerBound, block.count * MemoryLayout<Float>.size)
      if let base { memcpy(block.base, base + start, size) } else { memset(block.base, 0, size) }
      for (target, model) in zip(block.models, models) { memcpy(target, model + start, size) }
      return nil
    }
  }

  /// out = what `combine` makes of every block.
  func fill(_ blocks: TensorBlocks, with combine: @escaping (TensorBlock) -> Void) throws(Fault) {
    let out = out
    try blocks.strips { (strip) throws(Fault) in
      strip.visit { block in
        combine(block)
        memcpy(out + block.range.lowerBound, block.out, block.count * MemoryLayout<Float>.size)
      }
    }
  }
}

extension MergeMethod {
  /// out = SUM c_i * model_i.
  static func weightedSum(_ coefficients: [Double], _ lanes: Lanes) -> Combination {
    let factors = coefficients.map { Float($0) }
    return Combination { block in
      lanes.merging.combine_f32(
        block.out, block.operands, factors, block.models.count, block.count)
    }
  }
}
