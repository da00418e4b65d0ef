// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine
import PAFTModels
import PAFTOps

/// Operations a second of a model's products.
struct ProductRates: Sendable {
  /// In the type that a recipe computes in.
  var plain: Double
  /// In 8 bits; the same as `plain` where nothing is.
  var integer: Double

  init(plain: Double, integer: Double) {
    self.plain = plain
    self.integer = integer
  }

  /// Measured on `place`, by the products of the MLP with packing of their rows.
  init(of preparation: Preparation, on place: Place) throws {
    let c = preparation.model.configuration
    let (tokens, inputs, outputs) = (512, c.hidden, min(c.intermediate, 8192))
    let quantizes = preparation.quantizes
    let sizes = ScratchSizes(
      preparation.kernels, preparation.recipe.dtype.compute, workers: place.count)
    let scratch =
      sizes.floats(tokens, inputs + outputs) + sizes.floats(outputs, inputs)
      + sizes.rows(tokens, inputs) + sizes.integerRows(tokens, inputs)
      + sizes.weight(outputs: outputs, inputs: inputs, backward: false)
      + sizes.integerWeight(outputs: outputs, inputs: inputs, backward: false, turns: false)
      + (1 << 20)
    self = try Workbench.run(
      on: place, preparation.kernels, preparation.recipe.dtype, named: "plan", scratch: scratch
    ) { executor in
      let arena = executor.scratch
      let x = Matrix(in: arena, rows: tokens, columns: inputs)
      let y = Matrix(in: arena, rows: tokens, columns: outputs)
      let weights = Matrix(in: arena, rows: outputs, columns: inputs)
      for (matrix, count) in [(x, tokens * inputs), (weights, outputs * inputs)] {
        Elementwise.zero(matrix.base, count: count, on: executor)
      }
      func rate(_ product: () -> Void) -> Double {
        product()
        let watch = Stopwatch()
        var count = 0
        repeat {
          product()
          count += 1
        } while watch.seconds < 0.1
        return 2 * Double(count) * Double(tokens) * Double(inputs) * Double(outputs) / watch.seconds
      }
      let weight = executor.packedWeight(
        in: arena, outputs: outputs, inputs: inputs, backward: false)
      weight.pack(from: weights, on: executor)
      let mark = arena.mark
      let plain = rate {
        Linear.forward(Linear.pack(x, in: arena, on: executor), weight, into: y, on: executor)
        arena.release(to: mark)
      }
      guard quantizes else { return ProductRates(plain: plain, integer: plain) }
      let bytes = PackedIntegerWeight(
        in: arena, outputs: outputs, inputs: inputs, backward: false, on: executor)
      bytes.pack(from: weights, on: executor)
      let rows = QuantizedRows(in: arena, m: tokens, k: inputs, on: executor)
      let integer = rate {
        rows.quantize(x, on: executor)
        IntegerLinear.forward(rows, bytes, into: y, on: executor)
      }
      return ProductRates(plain: plain, integer: integer)
    }
  }
}
