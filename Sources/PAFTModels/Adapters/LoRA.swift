// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMachine
import PAFTOps

/// Low-rank adaptation (Hu et al. 2021): W + scale B A with A [r, in], B [out, r].
package struct LoRAConfiguration: Sendable, Equatable {
  package var rank: Int
  package var alpha: Double
  /// Scale alpha / sqrt(r) instead of alpha / r (Kalajdzievski 2023).
  package var rankStabilized: Bool
  /// Adapted modules, in `Module` order.
  package var targets: [Module]
  /// Ranks and alphas of modules that have their own, the first that fits (PEFT's `rank_pattern` and
  /// `alpha_pattern`).
  package var ranks: [ModuleValue] = []
  package var alphas: [ModuleValue] = []

  package init(
    rank: Int = 16, alpha: Double = 32, rankStabilized: Bool = false,
    targets: [Module] = Module.allCases
  ) {
    self.rank = rank
    self.alpha = alpha
    self.rankStabilized = rankStabilized
    self.targets = Module.allCases.filter(targets.contains)
  }

  package var scale: Float {
    Float(alpha / (rankStabilized ? Double(rank).squareRoot() : Double(rank)))
  }

  package func rank(_ module: Module, layer: Int) -> Int {
    ranks.first { $0.fits(module, layer: layer) }.map { Int($0.value) } ?? self.rank
  }

  package func scale(_ module: Module, layer: Int) -> Float {
    let alpha = alphas.first { $0.fits(module, layer: layer) }?.value ?? self.alpha
    let rank = Double(self.rank(module, layer: layer))
    return Float(alpha / (rankStabilized ? rank.squareRoot() : rank))
  }

  /// The adapted modules that a model has.
  package func modules(of c: ModelConfiguration) -> [Module] {
    targets.filter(c.modules.contains)
  }

  /// Rows of the factors under PEFT's names.
  package func table(_ c: ModelConfiguration) -> ParameterTable {
    var table = ParameterTable()
    for layer in 0..<c.layers {
      for module in modules(of: c) {
        let rank = self.rank(module, layer: layer)
        let prefix = "base_model.model.model.layers.\(layer).\(module.path)."
        table.append(
          prefix + "lora_A.weight", .adapterA(module), layer: layer,
          shape: [rank, c.inputs(module)])
        table.append(
          prefix + "lora_B.weight", .adapterB(module), layer: layer,
          shape: [c.outputs(module), rank])
      }
    }
    return table
  }
}

/// A value for the modules whose path is `name` or ends with it, after a dot.
package struct ModuleValue: Sendable, Equatable {
  package var name: String
  package var value: Double

  package init(_ name: String, _ value: Double) {
    self.name = name
    self.value = value
  }

  func fits(_ module: Module, layer: Int) -> Bool {
    let path = "model.layers.\(layer).\(module.path)"
    return path == name || path.hasSuffix("." + name)
  }
}

/// The factors of one adapter: flat Floats that an optimizer updates, and their operands. Where many
/// rows meet them, these are made layer by layer in the memory of one layer, at no cost that shows
/// beside the products; where single tokens are generated, they are kept for all.
package final class AdapterStore: @unchecked Sendable {
  package let configuration: LoRAConfiguration
  package let table: ParameterTable
  package let master: UnsafeMutablePointer<Float>
  private let packed: [PackedWeight]
  private let keepsOperands: Bool
  private let model: ModelConfiguration
  package let arena: Arena

  /// Factors zero; `initialize` or a file fills them, `repack` makes them effective.
  package init(
    _ configuration: LoRAConfiguration, _ model: ModelConfiguration, keepsOperands: Bool = true,
    on executor: Executor
  )
    throws
  {
    self.model = model
    self.keepsOperands = keepsOperands
    let table = configuration.table(model)
    self.table = table
    var configuration = configuration
    configuration.targets = configuration.modules(of: model)
    self.configuration = configuration
    let operands = Self.operandBytes(table, keepsAll: keepsOperands) {
      192 + executor.packedBytes(outputs: $0, inputs: $1, backward: true)
    }
    let bytes = table.floats * 4 + operands + (1 << 16)
    let arena = try Arena(capacity: bytes, node: executor.team.place.node, name: "adapter")
    self.arena = arena
    master = arena.allocate(Float.self, count: table.floats)
    let start = arena.mark
    var layer: Int?
    packed = table.rows.map { row in
      if !keepsOperands && row.layer != layer { arena.release(to: start) }
      layer = row.layer
      return executor.packedWeight(
        in: arena, outputs: row.shape[0], inputs: row.shape[1], backward: true)
    }
  }

  /// Bytes of all operands, or of those of the layer that needs most.
  package static func operandBytes(
    _ table: ParameterTable, keepsAll: Bool, each: (_ outputs: Int, _ inputs: Int) -> Int
  ) -> Int {
    var (sum, most, layer) = (0, 0, Int?.none)
    for row in table.rows {
      if !keepsAll && row.layer != layer { sum = 0 }
      layer = row.layer
      sum += each(row.shape[0], row.shape[1])
      most = max(most, sum)
    }
    return most
  }

  /// A uniform in ±1/sqrt(in) (PEFT's Kaiming-uniform with a = sqrt 5), B zero: the start is the
  /// base. Keyed by tensor name, so the draw does not depend on which modules are adapted.
  package func initialize(_ random: CounterRandom) {
    for row in table.rows {
      guard case .adapterA = row.role else {
        (master + row.offset).update(repeating: 0, count: row.count)
        continue
      }
      let stream = random.stream(row.name)
      let bound = 1 / Double(row.shape[1]).squareRoot()
      for i in 0..<row.count {
        master[row.offset + i] = Float((2 * stream.uniform(UInt64(i)) - 1) * bound)
      }
    }
  }

  package func repack(on executor: Executor) {
    if !keepsOperands { return }
    for (index, row) in table.rows.enumerated() {
      packed[index].pack(
        from: Matrix(master + row.offset, rows: row.shape[0], columns: row.shape[1]), on: executor)
    }
  }

  /// `base` with this adapter beside its linear layers.
  package func applied(to base: Weights) -> Weights {
    var weights = base
    weights.memory.append(arena)
    for (index, row) in table.rows.enumerated() {
      guard case .adapterA(let module) = row.role, let layer = row.layer else { continue }
      weights.layers[layer].linears[module.rawValue]!.adapter = AdapterWeights(
        a: packed[index], b: packed[index + 1], scale: configuration.scale(module, layer: layer))
      if keepsOperands { continue }
      for index in index...index + 1 {
        let row = table.rows[index]
        weights.layers[layer].factors.append(
          LayerWeights.Factor(
            values: Matrix(master + row.offset, rows: row.shape[0], columns: row.shape[1]),
            operand: packed[index]))
      }
    }
    return weights
  }
}
