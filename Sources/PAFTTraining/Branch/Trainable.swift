// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTFormats
import PAFTMachine
import PAFTModels
import PAFTOps

/// The trained tensors of a branch: one flat buffer each of values, gradients and moments over the
/// same table, and the weights that the decoder multiplies, kept in step with the values.
package final class Trainable: @unchecked Sendable {
  private enum Store {
    case full(WeightStore)
    case adapter(AdapterStore)
  }

  package let table: ParameterTable
  package let weights: Weights
  private let buffers: Buffers?
  /// Instead of them, where weights are updated in the backward pass and have no master.
  package let layerwise: LayerwiseTraining?
  package let first: UnsafeMutablePointer<Float>?
  package let second: UnsafeMutablePointer<Float>?
  /// Instead of both, where the optimizer keeps them in 8 bits.
  package let eightBit: EightBitMoments?
  /// Values before training, for a penalty on the delta; nil where nobody asks.
  package let initial: UnsafePointer<Float>?
  private let store: Store
  private let arena: Arena?
  /// Of the gradients alone: cleared by giving its pages back, which they find again in the backward
  /// pass as that of activations goes. Nil where that would cost more than it saves: a gradient as
  /// large as the model.
  private let gradientArena: Arena?
  /// Bytes of gradients that were cleared and not written since.
  private var untouched = 0

  /// Of values and gradients in Float, which trained operands do without.
  private struct Buffers {
    let values: UnsafeMutablePointer<Float>
    let gradient: UnsafeMutablePointer<Float>
    let gradients: Gradients
  }

  private var floatBuffers: Buffers {
    guard let buffers else { preconditionFailure("weights without a master are not Floats") }
    return buffers
  }
  package var values: UnsafeMutablePointer<Float> { floatBuffers.values }
  package var gradient: UnsafeMutablePointer<Float> { floatBuffers.gradient }

  package var floats: Int { table.floats }

  /// What it allocated for itself; the base that adapters stand beside is not part of it.
  package var memory: [Arena] {
    switch store {
    case .full: weights.memory + [arena ?? layerwise!.arena]
    case .adapter(let store): [store.arena, arena!, gradientArena!]
    }
  }

  /// Full fine-tuning of `folder`'s weights, or low-rank factors beside `base`.
  package static func make(
    _ adaptation: Adaptation, masters: Bool = true, base: BaseModel, optimizer: Optimizer,
    seed: UInt64, keepsInitial: Bool, on executor: Executor
  ) throws -> Trainable {
    switch adaptation {
    case .full:
      let folder = base.folder
      if !masters {
        return try layerwise(
          folder.table, folder.configuration, optimizer: optimizer, seed: seed,
          quantizes: base.quantizes, on: executor
        ) { try folder.read($0, into: $1) }
      }
      return try full(
        folder.table, folder.configuration, optimizer: optimizer, keepsInitial: keepsInitial,
        quantizes: base.quantizes, on: executor
      ) { try folder.read($0, into: $1) }
    case .lora(let lora):
      return try adapter(
        lora, beside: base.weights, base.configuration, optimizer: optimizer, seed: seed,
        on: executor)
    }
  }

  /// Low-rank factors beside weights that stay as they are.
  package static func adapter(
    _ lora: LoRAConfiguration, beside base: Weights, _ c: ModelConfiguration,
    optimizer: Optimizer, seed: UInt64, on executor: Executor
  ) throws -> Trainable {
    let store = try AdapterStore(lora, c, keepsOperands: false, on: executor)
    store.initialize(CounterRandom(seed: seed).stream("lora"))
    store.repack(on: executor)
    return try Trainable(
      .adapter(store), store.table, c, values: store.master, weights: store.applied(to: base),
      optimizer: optimizer, keepsInitial: false, on: executor)
  }

  /// All weights, filled by `fill`: from a folder, or at random for a model that does not exist yet.
  /// With `quantizes` they are multiplied in 8 bits, forward and for the gradients of inputs.
  package static func full(
    _ table: ParameterTable, _ c: ModelConfiguration, optimizer: Optimizer, keepsInitial: Bool,
    quantizes: Bool = false, on executor: Executor,
    fill: (Parameter, UnsafeMutablePointer<Float>) throws -> Void
  ) throws -> Trainable {
    let store = try WeightStore(
      table, c, keepsMaster: true, backward: true, quantizes: quantizes, name: "weights",
      on: executor, fill: fill)
    return try Trainable(
      .full(store), table, c, values: store.master!, weights: store.weights, optimizer: optimizer,
      keepsInitial: keepsInitial, on: executor)
  }

  /// All weights without master copies, updated in the backward pass.
  package static func layerwise(
    _ table: ParameterTable, _ c: ModelConfiguration, optimizer: Optimizer, seed: UInt64,
    quantizes: Bool = false, on executor: Executor,
    fill: (Parameter, UnsafeMutablePointer<Float>) throws -> Void
  ) throws -> Trainable {
    let store = try WeightStore(
      table, c, keepsMaster: false, backward: true, quantizes: quantizes, turns: true,
      trainsOperands: true, name: "weights", on: executor, fill: fill)
    // A tensor as Floats is more than a pass may need.
    executor.scratch.trim()
    return Trainable(
      try LayerwiseTraining(store, optimizer: optimizer, seed: seed, on: executor))
  }

  private init(_ layerwise: LayerwiseTraining) {
    self.layerwise = layerwise
    store = .full(layerwise.store)
    table = layerwise.store.table
    weights = layerwise.store.weights
    (buffers, arena, gradientArena, initial) = (nil, nil, nil, nil)
    (first, second, eightBit) = (layerwise.first, layerwise.second, layerwise.eightBit)
  }

  private init(
    _ store: Store, _ table: ParameterTable, _ c: ModelConfiguration,
    values: UnsafeMutablePointer<Float>, weights: Weights, optimizer: Optimizer, keepsInitial: Bool,
    on executor: Executor
  ) throws {
    self.store = store
    self.table = table
    layerwise = nil
    self.weights = weights
    let (bytes, node) = (table.floats * 4 + 64, executor.team.place.node)
    var isAdapter = false
    if case .adapter = store { isAdapter = true }
    gradientArena = isAdapter ? try Arena(capacity: bytes, node: node, name: "gradients") : nil
    let arena = try Arena(
      capacity: ((isAdapter ? 0 : 1) + (keepsInitial ? 1 : 0)) * bytes
        + optimizer.momentBytes(table),
      node: node, name: isAdapter ? "moments" : "gradients and moments")
    self.arena = arena
    let gradient = (gradientArena ?? arena).allocate(Float.self, count: table.floats)
    first = optimizer.momentCount > 0 ? arena.allocate(Float.self, count: table.floats) : nil
    second = optimizer.momentCount > 1 ? arena.allocate(Float.self, count: table.floats) : nil
    eightBit =
      optimizer.isEightBit
      ? EightBitMoments(
        in: arena, count: table.floats + table.rows.count * EightBitMoments.block) : nil
    if keepsInitial {
      let copy = arena.allocate(Float.self, count: table.floats)
      copy.update(from: values, count: table.floats)
      initial = UnsafePointer(copy)
    } else {
      initial = nil
    }
    self.buffers = Buffers(
      values: values, gradient: gradient, gradients: Gradients(table, at: gradient, c))
  }

  /// Makes the gradients zero.
  func clearGradient(on executor: Executor) {
    if let gradientArena {
      untouched = gradientArena.clear()
    } else {
      Elementwise.zero(gradient, count: floats, on: executor)
    }
  }

  /// A backward pass into the gradients, or, without masters, the step's pass and its update.
  func backward(
    _ decoder: Decoder, _ hidden: Matrix, _ batch: Batch, rows: HeadLoss.Rows, scored: Bool,
    coefficients: UnsafePointer<Float>
  ) {
    if let layerwise {
      layerwise.backward(
        decoder, hidden, batch, rows: rows, scored: scored, coefficients: coefficients)
    } else {
      var gradients = floatBuffers.gradients
      gradients.untouched = untouched
      untouched = 0
      decoder.backward(
        hidden, batch, weights, rows: rows, scored: scored, coefficients: coefficients,
        into: gradients)
    }
  }

  /// The scale of the adapter's product; 1 for full weights.
  package var adapterScale: Float {
    if case .adapter(let store) = store { store.configuration.scale } else { 1 }
  }

  /// Carries changed values into the packed copies that the decoder reads.
  package func repack(on executor: Executor) {
    if let layerwise { return layerwise.refresh(on: executor) }
    switch store {
    case .full(let store): store.repack(on: executor)
    case .adapter(let store): store.repack(on: executor)
    }
  }

  /// Writes `adapter/` or `model/` inside `folder`; returns its path.
  package func write(to folder: String, base: String, replacing: Bool) throws -> String {
    switch store {
    case .full(let store):
      let output = try OutputFolder(folder + "/model", replacing: replacing)
      if buffers == nil {
        try ModelWriter.write(store, like: base, into: output)
      } else {
        // F32: the merge takes the difference to the base, which BF16 would round away.
        try ModelWriter.write(store.table, values, dtype: .f32, like: base, into: output)
      }
      try output.commit()
      return output.target
    case .adapter(let store):
      let output = try OutputFolder(folder + "/adapter", replacing: replacing)
      try store.write(into: output, base: base)
      try output.commit()
      return output.target
    }
  }
}
