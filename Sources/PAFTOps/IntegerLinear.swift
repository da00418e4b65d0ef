// SPDX-License-Identifier: Apache-2.0

import PAFTKernels

/// Y = X Wᵀ + bias with a frozen 8-bit weight, and the gradient of its input. There is no gradient of
/// the weight: adapters train beside it.
package enum IntegerLinear {
  /// y[m, out] = x Wᵀ (+ bias) (+ an adapter), or y += … when `accumulate`.
  package static func forward(
    _ x: QuantizedRows, _ weight: PackedIntegerWeight, bias: UnsafePointer<Float>? = nil,
    into y: Matrix, adapter: Linear.LowRank? = nil, accumulate: Bool = false, on executor: Executor
  ) {
    let span = executor.begin(.gemm(x.m, weight.outputs, x.k, .forward, .int8))
    defer { executor.end(span) }
    IntegerGEMM.multiply(
      x, weight.forward, columnScale: weight.scales, bias: bias, into: y, accumulate: accumulate,
      tail: adapter?.forward, on: executor)
  }

  /// dx[m, in] (+)= dy W (+ an adapter), where `dy` was quantised with `columns: weight.scales`.
  package static func backwardInput(
    _ dy: QuantizedRows, _ weight: PackedIntegerWeight, into dx: Matrix,
    adapter: Linear.LowRank? = nil, accumulate: Bool, on executor: Executor
  ) {
    let span = executor.begin(.gemm(dy.m, dy.k, weight.inputs, .dgrad, .int8))
    defer { executor.end(span) }
    if let compensation = weight.turnedCompensation {
      return IntegerGEMM.multiplyTurned(
        dy, weight.forward, compensation, into: dx, accumulate: accumulate,
        tail: adapter?.backward, on: executor)
    }
    guard let backward = weight.backward else {
      preconditionFailure("this weight was packed for the forward pass only")
    }
    IntegerGEMM.multiply(
      dy, backward, columnScale: nil, bias: nil, into: dx, accumulate: accumulate,
      tail: adapter?.backward, on: executor)
  }
}
