// SPDX-License-Identifier: Apache-2.0

import PAFTKernels

/// What a gated unit makes of its gate (Shazeer 2020).
package enum Activation: Sendable {
  /// x sigmoid(x).
  case silu
  /// The tanh form of GELU (Hendrycks and Gimpel 2016).
  case gelu
}

extension RowKernels {
  /// y = activation(gate) * up.
  func gated(_ activation: Activation) -> @convention(c) (Out, In, In, Int, Int) -> Void {
    activation == .silu ? swiglu_f32 : geglu_f32
  }

  func gatedBackward(
    _ activation: Activation
  ) -> @convention(c) (Out, Out, In, In, In, Int) -> Void {
    activation == .silu ? swigluBackward_f32 : gegluBackward_f32
  }

  /// `gated`, with gate and up rounded besides.
  func gatedKeeping(
    _ activation: Activation
  ) -> @convention(c) (Out, Out16, Out16, In, In, Int) -> Void {
    activation == .silu ? swigluKeeping_bf16 : gegluKeeping_bf16
  }

  /// `gatedBackward` from what was rounded, with the same and the product rounded.
  func roundedBackward(
    _ activation: Activation
  ) -> @convention(c) (Out, Out, Out16?, Out16?, Out16?, In, In16, In16, Int) -> Void {
    activation == .silu ? swigluBackward_bf16 : gegluBackward_bf16
  }
}

/// Scores or logits held within ±cap: z <- cap tanh(z / cap) (Gemma 2).
package struct Softcap: Sendable, Equatable {
  package let cap: Float

  package init(_ cap: Float) { self.cap = cap }

  /// Caps rows of z in place; `slopes`, of the same shape, receives dz'/dz.
  func apply(
    _ z: UnsafeMutablePointer<Float>, _ slopes: UnsafeMutablePointer<Float>?, _ n: Int,
    _ kernels: KernelTable
  ) {
    kernels.rows.softcap_f32(z, slopes, n, 1 / cap, cap)
  }

  /// dz'/dz where the capped value is known.
  func slope(at capped: Float) -> Float {
    let t = capped / cap
    return (1 - t) * (1 + t)
  }
}
