// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTMachine
import PAFTOps

/// A decoder's weights in memory: linear layers packed for both passes, the rest as Floats.
///
/// The layers of the blocks may be multiplied in 8 bits (`quantizes`). A frozen store makes them from
/// the source tensor by tensor, so that the model is never in memory in a wider type; one that is
/// trained makes them anew from its master. Embedding and head stay in the executor's type: their
/// errors would be every token's. A frozen embedding is kept once, in that type, and in the head
/// itself where the two are tied.
///
/// Filled from a source of rows one tensor at a time. With `keepsMaster` the plain Floats of every
/// tensor stay as well, in one flat buffer that an optimizer updates; `repack` then carries its
/// work into the packed copies. With `trainsOperands` there is no master: an optimizer changes the
/// panels themselves (`TrainedOperand`), of which there is one layout, and what is multiplied in 8
/// bits is made anew from them (`refresh`).
package final class WeightStore: @unchecked Sendable {
  package let configuration: ModelConfiguration
  package let table: ParameterTable
  package let weights: Weights
  package let quantizes: Bool
  /// Flat Floats of all rows, at their offsets; nil for a frozen store.
  package let master: UnsafeMutablePointer<Float>?
  private let arena: Arena
  private let reader: TrainedOperand.Reader
  /// Of each row that is a norm and whose weight multiplies with an offset: weight + offset.
  private let norms: [UnsafeMutablePointer<Float>?]
  /// Of each row, where panels are trained: those panels, or the Floats of what is no matrix.
  package let operands: [TrainedOperand?]
  package let vectors: [UnsafeMutablePointer<Float>?]

  /// Tensors that a forward pass reads as Floats also where they are frozen.
  private static func staysPlain(_ role: Parameter.Role) -> Bool {
    switch role {
    case .weight, .head, .embedding: false
    default: true
    }
  }

  /// Tensors that are multiplied by. A tied embedding is the head.
  private static func isPacked(_ row: Parameter, _ c: ModelConfiguration) -> Bool {
    switch row.role {
    case .weight, .head: true
    case .embedding: c.tiedHead
    default: false
    }
  }

  /// Bytes that a store needs, by what a weight takes in its layouts.
  package static func bytes(
    _ table: ParameterTable, _ c: ModelConfiguration, keepsMaster: Bool, backward: Bool,
    quantizes: Bool = false, turns: Bool = false, trainsOperands: Bool = false,
    sizes: ScratchSizes
  ) -> Int {
    let both = backward && !turns
    // Its layouts are allocations of their own.
    func layouts(_ bytes: Int) -> Int { both ? 2 * Arena.taken(bytes / 2) : Arena.taken(bytes) }
    var bytes = keepsMaster ? table.floats * 4 : 0
    for row in table.rows {
      if !keepsMaster && staysPlain(row.role) { bytes += row.count * 4 + 64 }
      if (keepsMaster || trainsOperands) && row.role.isNorm && c.family.normOffset != 0 {
        bytes += row.count * 4 + 64
      }
      if isPacked(row, c) {
        let (outputs, inputs) = (row.shape[0], row.shape[1])
        if trainsOperands && quantizes && row.role.isLinear {
          bytes += 64 + Arena.taken(sizes.weight(outputs: outputs, inputs: inputs, backward: false))
        }
        bytes +=
          quantizes && row.role.isLinear
          ? 320
            + layouts(
              sizes.integerWeight(
                outputs: outputs, inputs: inputs, backward: backward, turns: turns))
          : 192 + layouts(sizes.weight(outputs: outputs, inputs: inputs, backward: both))
      } else if row.role == .embedding && !keepsMaster {
        bytes +=
          64
          + Arena.taken(
            PackedMatrix.bytes(
              k: row.shape[0], n: row.shape[1], type: sizes.type, tile: sizes.tile))
      }
    }
    return bytes + (1 << 16)
  }

  /// - Parameters:
  ///   - quantizes: whether the linear layers of the blocks are multiplied in 8 bits.
  ///   - turns: whether weights that gradients pass through are kept in one layout (`PackedWeight`).
  ///   - trainsOperands: whether the panels are what is trained; they have one layout then.
  ///   - part: writes some of the Floats of one row to the address given: frozen matrices are then packed
  ///     some megabytes at a time.
  ///   - fill: writes those of a whole row.
  package init(
    _ table: ParameterTable, _ c: ModelConfiguration, keepsMaster: Bool, backward: Bool,
    quantizes: Bool = false, turns: Bool = false, trainsOperands: Bool = false, name: String,
    on executor: Executor,
    part: ((Parameter, Range<Int>, UnsafeMutablePointer<Float>) throws -> Void)? = nil,
    fill: (Parameter, UnsafeMutablePointer<Float>) throws -> Void
  ) throws {
    precondition(!trainsOperands || !keepsMaster && backward && turns && executor.compute == .bf16)
    configuration = c
    reader = TrainedOperand.Reader(executor)
    self.table = table
    self.quantizes = quantizes
    let arena = try Arena(
      capacity: Self.bytes(
        table, c, keepsMaster: keepsMaster, backward: backward, quantizes: quantizes,
        turns: turns, trainsOperands: trainsOperands,
        sizes: ScratchSizes(executor.kernels, executor.compute, workers: executor.workers)),
      node: executor.team.place.node, name: name)
    self.arena = arena
    let master = keepsMaster ? arena.allocate(Float.self, count: table.floats) : nil
    self.master = master

    var plain = [UnsafeMutablePointer<Float>?](repeating: nil, count: table.rows.count)
    var packed = [LinearWeight?](repeating: nil, count: table.rows.count)
    var norms = [UnsafeMutablePointer<Float>?](repeating: nil, count: table.rows.count)
    var operands = [TrainedOperand?](repeating: nil, count: table.rows.count)
    var embedding: PackedMatrix?
    for (index, row) in table.rows.enumerated() {
      if let master {
        plain[index] = master + row.offset
      } else if Self.staysPlain(row.role) {
        plain[index] = arena.allocate(Float.self, count: row.count)
      }
      if Self.isPacked(row, c) {
        let (outputs, inputs) = (row.shape[0], row.shape[1])
        packed[index] =
          quantizes && row.role.isLinear
          ? .integers(
            PackedIntegerWeight(
              in: arena, outputs: outputs, inputs: inputs, backward: backward, turns: turns,
              on: executor))
          : .floats(
            executor.packedWeight(
              in: arena, outputs: outputs, inputs: inputs, backward: backward, turns: turns))
      } else if row.role == .embedding && !keepsMaster {
        embedding = PackedMatrix(
          in: arena, k: row.shape[0], n: row.shape[1], type: executor.compute, tile: executor.tile)
      }
      if let part, plain[index] == nil {
        try Self.pack(row, packed[index], embedding, on: executor, part)
        continue
      }
      let mark = executor.scratch.mark
      defer { executor.scratch.release(to: mark) }
      let target = plain[index] ?? executor.scratch.allocate(Float.self, count: row.count)
      try fill(row, target)
      if row.role.isNorm && c.family.normOffset != 0 {
        norms[index] =
          keepsMaster || trainsOperands ? arena.allocate(Float.self, count: row.count) : target
        Self.offset(row, c, from: target, into: norms[index]!)
      }
      let matrix = Matrix(target, rows: row.shape[0], columns: row.shape.last!)
      if trainsOperands {
        operands[index] = Self.operand(packed[index], embedding, row, in: arena, on: executor)
        // What is made of the panels is made of rounded values.
        if case .integers? = packed[index], let operand = operands[index] {
          operand.matrix.pack(from: matrix, transposed: true, on: executor)
          operand.load(into: matrix, on: executor)
        }
      }
      packed[index]?.pack(from: matrix, on: executor)
      if row.role == .embedding {
        embedding?.pack(from: matrix, transposed: false, on: executor)
      }
    }
    self.norms = norms
    self.operands = operands
    vectors = trainsOperands ? plain : []
    weights = Self.assemble(
      table, c, zip(norms, plain).map { $0 ?? $1 }, packed, embedding, in: arena)
  }

  /// The panels of a row that an optimizer changes.
  private static func operand(
    _ packed: LinearWeight?, _ embedding: PackedMatrix?, _ row: Parameter, in arena: Arena,
    on executor: Executor
  ) -> TrainedOperand? {
    switch packed {
    case .floats(let weight): .columns(weight.forward)
    case .integers:
      .columns(
        PackedMatrix(
          in: arena, k: row.shape[1], n: row.shape[0], type: executor.compute, tile: executor.tile))
    case nil: row.role == .embedding ? embedding.map { .rows($0) } : nil
    }
  }

  /// Floats of a matrix that are in memory at a time while it is packed.
  package static let partBytes = 8 << 20

  /// Packs a matrix part by part.
  private static func pack(
    _ row: Parameter, _ packed: LinearWeight?, _ embedding: PackedMatrix?, on executor: Executor,
    _ part: (Parameter, Range<Int>, UnsafeMutablePointer<Float>) throws -> Void
  ) throws {
    let (rows, columns) = (row.shape[0], row.shape[1])
    let grain = packed?.rowGrain ?? executor.tile.rowGrain
    let most = max(1, partBytes / (4 * columns * grain)) * grain
    for first in stride(from: 0, to: rows, by: most) {
      let last = min(first + most, rows)
      try executor.withScratch { scratch in
        let floats = Matrix(in: scratch, rows: last - first, columns: columns)
        try part(row, first * columns..<last * columns, floats.base)
        packed?.packRows(from: floats, at: first, on: executor)
        if row.role == .embedding { embedding?.packRows(from: floats, at: first, on: executor) }
      }
    }
    packed?.finish(on: executor)
  }

  private static func offset(
    _ row: Parameter, _ c: ModelConfiguration, from weight: UnsafePointer<Float>,
    into target: UnsafeMutablePointer<Float>
  ) {
    for i in 0..<row.count { target[i] = weight[i] + c.family.normOffset }
  }

  private static func assemble(
    _ table: ParameterTable, _ c: ModelConfiguration, _ plain: [UnsafeMutablePointer<Float>?],
    _ packed: [LinearWeight?], _ frozen: PackedMatrix?, in arena: Arena
  ) -> Weights {
    var embedding = frozen.map { EmbeddingTable.rows($0) }
    var head: LinearWeight?
    var finalNorm: UnsafePointer<Float>?
    var layers = [LayerWeights](repeating: LayerWeights(), count: c.layers)
    var biases: [(layer: Int, module: Module, at: UnsafePointer<Float>)] = []
    for (index, row) in table.rows.enumerated() {
      let at = plain[index].map { UnsafePointer($0) }
      switch row.role {
      case .embedding:
        if let at = plain[index] {
          embedding = .floats(Matrix(at, rows: row.shape[0], columns: row.shape[1]))
        }
        if c.tiedHead { head = packed[index] }
      case .head: head = packed[index]
      case .finalNorm: finalNorm = at
      case .inputNorm: layers[row.layer!].inputNorm = at
      case .attentionOutputNorm: layers[row.layer!].attentionOutputNorm = at
      case .mlpInputNorm: layers[row.layer!].mlpInputNorm = at
      case .mlpOutputNorm: layers[row.layer!].mlpOutputNorm = at
      case .queryNorm: layers[row.layer!].queryNorm = at
      case .keyNorm: layers[row.layer!].keyNorm = at
      case .weight(let module):
        layers[row.layer!].linears[module.rawValue] = LinearWeights(
          weight: packed[index]!, bias: nil)
      case .bias(let module): biases.append((row.layer!, module, at!))
      case .adapterA, .adapterB: preconditionFailure("adapters have a store of their own")
      }
    }
    guard case .floats(let head)? = head else { preconditionFailure("a head of Floats") }
    for bias in biases { layers[bias.layer].linears[bias.module.rawValue]!.bias = bias.at }
    // Frozen and tied: the head holds the table.
    let table = embedding ?? head.backward.map { .rows($0) } ?? .columns(head.forward)
    return Weights(
      embedding: table, layers: layers, finalNorm: finalNorm!, head: head, memory: [arena])
  }

  /// Hands over the values of a row of trained panels, some thousand at a time.
  package func withValues(
    _ index: Int, _ body: (UnsafePointer<Float>, _ count: Int) throws -> Void
  ) rethrows {
    guard let operand = operands[index] else { return }
    let block = operand.block
    let values = UnsafeMutablePointer<Float>.allocate(capacity: block * operand.width)
    defer { values.deallocate() }
    for first in stride(from: 0, to: operand.count, by: block) {
      let rows = first..<min(operand.count, first + block)
      reader.load(operand, rows, into: values)
      try body(values, rows.count * operand.width)
    }
  }

  /// Makes anew what is made of a row's trained panels or Floats.
  package func refresh(_ index: Int, on executor: Executor) {
    let row = table.rows[index]
    if let norm = norms[index], let vector = vectors[index] {
      Self.offset(row, configuration, from: vector, into: norm)
    }
    guard case .weight(let module) = row.role, let operand = operands[index],
      case .integers(let weight)? = weights.layers[row.layer!].linears[module.rawValue]?.weight
    else { return }
    executor.withScratch { scratch in
      let values = Matrix(in: scratch, rows: row.shape[0], columns: row.shape[1])
      operand.load(into: values, on: executor)
      weight.pack(from: values, on: executor)
    }
  }

  /// Carries the master weights into the packed copies, after an optimizer step.
  package func repack(on executor: Executor) {
    guard let master else { preconditionFailure("a frozen store has nothing to repack") }
    for row in table.rows where row.isMatrix {
      let source = Matrix(master + row.offset, rows: row.shape[0], columns: row.shape[1])
      switch row.role {
      case .embedding: if configuration.tiedHead { weights.head.pack(from: source, on: executor) }
      case .head: weights.head.pack(from: source, on: executor)
      case .weight(let module):
        weights.layers[row.layer!].linears[module.rawValue]!.weight.pack(
          from: source, on: executor)
      default: break
      }
    }
    for (row, norm) in zip(table.rows, norms) {
      if let norm { Self.offset(row, configuration, from: master + row.offset, into: norm) }
    }
  }
}
