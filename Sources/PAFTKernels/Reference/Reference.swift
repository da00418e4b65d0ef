// SPDX-License-Identifier: Apache-2.0

import PAFTBase

extension KernelTable {
  /// Plain loops, sums in Double: the truth the other tables are tested against, the fallback for
  /// any kernel they lack, and what runs on a CPU without AVX2.
  package static let reference = makeReference()
}

/// Outside the extension, so that a name means the function and not the table's own field.
private func makeReference() -> KernelTable {
  KernelTable(
    name: "reference",
    gemm: GEMMKernels(
      tile_f32: referenceTile,
      tile_bf16: referencePairTile,
      multiply_f32: multiply_f32,
      multiply_bf16: multiply_bf16,
      strip_f32: strip_f32,
      strip_bf16: strip_bf16,
      fewRows_f32: { strip_f32($0, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $2, 0, 0) },
      fewRows_bf16: { strip_bf16($0, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $2, 0, 0) },
      multiplyUnpacked_f32: multiplyUnpacked_f32,
      multiplyThin_bf16: { g, ldg, turned, low, x, rows, columns, stride, rank, alpha, _ in
        multiplyThin_bf16(g, ldg, turned, low, rows, columns, rank, alpha) {
          BF16(x[$0 &* stride &+ $1])
        }
      },
      multiplyThinRounded_bf16: { g, ldg, turned, low, x, rows, columns, stride, rank, alpha, _ in
        multiplyThin_bf16(g, ldg, turned, low, rows, columns, rank, alpha) {
          BF16(bits: x[$0 &* stride &+ $1])
        }
      },
      packA_f32: packA_f32,
      packA_bf16: packA_bf16,
      packAT_f32: packAT_f32,
      packAT_bf16: packAT_bf16,
      packB_f32: packB_f32,
      packB_bf16: packB_bf16,
      packBT_f32: packBT_f32,
      packBT_bf16: packBT_bf16,
      unpackBT_bf16: unpackBT_bf16,
      turnB_f32: turnB_f32,
      turnB_bf16: turnB_bf16),
    rows: RowKernels(
      rmsNorm_f32: rmsNorm_f32,
      rmsNormBackward_f32: rmsNormBackward_f32,
      rope_f32: rope_f32,
      swiglu_f32: swiglu_f32,
      swigluBackward_f32: swigluBackward_f32,
      geglu_f32: geglu_f32,
      gegluBackward_f32: gegluBackward_f32,
      swigluKeeping_bf16: { y, keptGate, keptUp, gate, up, n in
        swiglu_f32(y, gate, up, n, 0)
        toBF16(keptGate, gate, n, 0)
        toBF16(keptUp, up, n, 0)
      },
      gegluKeeping_bf16: { y, keptGate, keptUp, gate, up, n in
        geglu_f32(y, gate, up, n, 0)
        toBF16(keptGate, gate, n, 0)
        toBF16(keptUp, up, n, 0)
      },
      swigluBackward_bf16: {
        gatedBackward_bf16($0, $1, $2, $3, $4, $5, $6, $7, $8, swiglu_f32, swigluBackward_f32)
      },
      gegluBackward_bf16: {
        gatedBackward_bf16($0, $1, $2, $3, $4, $5, $6, $7, $8, geglu_f32, gegluBackward_f32)
      },
      softcap_f32: softcap_f32,
      softmaxOnline_f32: softmaxOnline_f32,
      softmaxBackward_f32: softmaxBackward_f32,
      logSumExp_f32: logSumExp_f32,
      softmaxGradient_f32: softmaxGradient_f32,
      argmax_f32: argmax_f32),
    vectors: VectorKernels(
      axpy_f32: axpy_f32,
      scale_f32: scale_f32,
      product_f32: product_f32,
      dot_f32: dot_f32,
      sumSquares_f32: sumSquares_f32,
      sumAbsolute_f32: sumAbsolute_f32,
      sign_f32: sign_f32,
      toBF16: toBF16,
      fromBF16: fromBF16,
      toBF16Stochastic: toBF16Stochastic,
      copy_f32: copy_f32,
      gatherRows_f32: gatherRows_f32,
      scatterRows_f32: scatterRows_f32),
    optimizer: OptimizerKernels(
      adamW_f32: adamW_f32,
      adamWStochastic_bf16: adamWStochastic_bf16,
      adamWSplit_bf16: adamWSplit_bf16,
      adamW8_f32: adamW8_f32,
      softThreshold_f32: softThreshold_f32),
    integer: IntegerKernels(
      tile: referenceQuadTile,
      strip_u8s8: strip_u8s8,
      quantizeA_u8: quantizeA_u8,
      quantizeNormA_u8: quantizeNormA_u8,
      quantizers_f32: quantizers_f32,
      packBT_s8: packBT_s8,
      packB_s8: packB_s8,
      turnB_s8: turnB_s8,
      compensation_s8: compensation_s8),
    attention: referenceAttention,
    merging: MergingKernels(
      difference_f32: difference_f32,
      difference_bf16: difference_bf16,
      difference_f16: difference_f16, fromF16: fromF16, toF16: toF16,
      add_f32: add_f32,
      countBeyond_f32: countBeyond_f32,
      countWithin_f32: countWithin_f32,
      countSigns_f32: countSigns_f32,
      measure_f32: measure_f32,
      relate_f32: relate_f32,
      histogram_f32: histogram_f32,
      collect_f32: collect_f32,
      collectBetween_f32: collectBetween_f32,
      cut_f32: cut_f32,
      thin_f32: thin_f32,
      draw_bits: draw_bits,
      keep_f32: keep_f32,
      combine_f32: combine_f32,
      agree_f32: agree_f32,
      survey_bf16: survey_bf16,
      collectBetween_bf16: collectBetween_bf16,
      drawSums_bf16: drawSums_bf16,
      agree_bf16: agree_bf16,
      finish_bf16: finish_bf16),
    probe: ProbeKernels(
      sums: referenceSums, peak_f32: peak_f32, peak_bf16: peak_bf16, peak_u8s8: peak_u8s8,
      read_f32: read_f32))
}
