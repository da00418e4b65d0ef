// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies
import PAFTKernelInterface

/// Compiles every body but the GEMM tile for this module's `Lanes` and puts it into `table`.
/// This file is one text in all ISA modules (a link), because a C function pointer cannot be formed
/// from a generic: the closures have to be written where the instruction set is known.
func install(_ table: inout KernelTable) {
  install(&table.gemm)
  install(&table.rows)
  install(&table.vectors)
  install(&table.optimizer)
  install(&table.attention)
  install(&table.merging)
  install(&table.probe)
}

private func install(_ gemm: inout GEMMKernels) {
  gemm.multiplyUnpacked_f32 = { multiplyUnpacked_f32(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7) }
  gemm.multiplyThin_bf16 = {
    multiplyThin_bf16(
      Pairs.self, FloatRows<Lanes>.self, ThinTile.self, $0, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
  }
  gemm.multiplyThinRounded_bf16 = {
    multiplyThin_bf16(
      Pairs.self, RoundedRows<Lanes>.self, ThinTile.self, $0, $1, $2, $3, $4, $5, $6, $7, $8, $9,
      $10)
  }
  gemm.packA_f32 = { packA_f32(Lanes.self, $0, $1, $2, $3, $4) }
  gemm.packA_bf16 = { packA_bf16(Lanes.self, $0, $1, $2, $3, $4) }
  gemm.packAT_f32 = { packAT_f32(Lanes.self, $0, $1, $2, $3, $4) }
  gemm.packAT_bf16 = { packAT_bf16(Lanes.self, $0, $1, $2, $3, $4) }
  gemm.packB_f32 = { packB_f32(Lanes.self, $0, $1, $2, $3, $4) }
  gemm.packB_bf16 = { packB_bf16(Lanes.self, $0, $1, $2, $3, $4) }
  gemm.packBT_f32 = { packBT_f32(Lanes.self, $0, $1, $2, $3, $4) }
  gemm.packBT_bf16 = { packBT_bf16(Lanes.self, $0, $1, $2, $3, $4) }
  gemm.unpackBT_bf16 = { unpackBT_bf16(Lanes.self, $0, $1, $2, $3, $4) }
  gemm.turnB_f32 = { turnB_f32(Lanes.self, $0, $1, $2, $3, $4) }
  gemm.turnB_bf16 = { turnB_bf16(Lanes.self, $0, $1, $2, $3, $4) }
}

private func install(_ rows: inout RowKernels) {
  rows.rmsNorm_f32 = { rmsNorm_f32(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7, $8) }
  rows.rmsNormBackward_f32 = {
    rmsNormBackward_f32(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7, $8, $9)
  }
  rows.rope_f32 = { rope_f32(Lanes.self, $0, $1, $2, $3, $4, $5) }
  rows.swiglu_f32 = { swiglu_f32(Lanes.self, $0, $1, $2, $3, $4) }
  rows.swigluBackward_f32 = { swigluBackward_f32(Lanes.self, $0, $1, $2, $3, $4, $5) }
  rows.geglu_f32 = { geglu_f32(Lanes.self, $0, $1, $2, $3, $4) }
  rows.gegluBackward_f32 = { gegluBackward_f32(Lanes.self, $0, $1, $2, $3, $4, $5) }
  rows.swigluKeeping_bf16 = {
    gatedKeeping_bf16(Lanes.self, $0, $1, $2, $3, $4, $5) { siluProduct(Lanes.self, $0, $1) }
  }
  rows.gegluKeeping_bf16 = {
    gatedKeeping_bf16(Lanes.self, $0, $1, $2, $3, $4, $5) { geluProduct(Lanes.self, $0, $1) }
  }
  rows.swigluBackward_bf16 = {
    gatedBackward_bf16(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7, $8) { silu(Lanes.self, $0) }
  }
  rows.gegluBackward_bf16 = {
    gatedBackward_bf16(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7, $8) { gelu(Lanes.self, $0) }
  }
  rows.softcap_f32 = { softcap_f32(Lanes.self, $0, $1, $2, $3, $4) }
  rows.softmaxOnline_f32 = { softmaxOnline_f32(Lanes.self, $0, $1, $2, $3) }
  rows.softmaxBackward_f32 = { softmaxBackward_f32(Lanes.self, $0, $1, $2, $3, $4, $5) }
  rows.logSumExp_f32 = { logSumExp_f32(Lanes.self, $0, $1, $2) }
  rows.softmaxGradient_f32 = { softmaxGradient_f32(Lanes.self, $0, $1, $2, $3) }
  rows.argmax_f32 = { argmax_f32(Lanes.self, $0, $1) }
}

private func install(_ vectors: inout VectorKernels) {
  vectors.axpy_f32 = { axpy_f32(Lanes.self, $0, $1, $2, $3) }
  vectors.scale_f32 = { scale_f32(Lanes.self, $0, $1, $2) }
  vectors.product_f32 = { product_f32(Lanes.self, $0, $1, $2) }
  vectors.dot_f32 = { dot_f32(Lanes.self, $0, $1, $2) }
  vectors.sumSquares_f32 = { dot_f32(Lanes.self, $0, $0, $1) }
  vectors.sumAbsolute_f32 = { sumAbsolute_f32(Lanes.self, $0, $1) }
  vectors.sign_f32 = { sign_f32(Lanes.self, $0, $1) }
  vectors.toBF16 = { toBF16(Lanes.self, $0, $1, $2, $3) }
  vectors.fromBF16 = { fromBF16(Lanes.self, $0, $1, $2, $3) }
  vectors.toBF16Stochastic = { toBF16Stochastic(Lanes.self, $0, $1, $2, $3, $4) }
  vectors.copy_f32 = { copy_f32(Lanes.self, $0, $1, $2, $3) }
  vectors.gatherRows_f32 = { gatherRows_f32(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7) }
  vectors.scatterRows_f32 = { scatterRows_f32(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7, $8) }
}

private func install(_ optimizer: inout OptimizerKernels) {
  optimizer.adamW_f32 = { adamW_f32(Lanes.self, $0, $1, $2, $3, $4, $5) }
  optimizer.adamWStochastic_bf16 = {
    adamWStochastic_bf16(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7)
  }
  optimizer.adamWSplit_bf16 = { adamWSplit_bf16(Lanes.self, $0, $1, $2, $3, $4, $5, $6) }
  optimizer.adamW8_f32 = { adamW8_f32(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7, $8) }
  optimizer.softThreshold_f32 = { softThreshold_f32(Lanes.self, $0, $1, $2, $3) }
}

private func install(_ merging: inout MergingKernels) {
  merging.difference_f32 = { difference_f32(Lanes.self, $0, $1, $2, $3) }
  merging.difference_bf16 = { difference_bf16(Lanes.self, $0, $1, $2, $3) }
  merging.difference_f16 = { difference_f16(Lanes.self, $0, $1, $2, $3) }
  merging.fromF16 = { fromF16(Lanes.self, $0, $1, $2) }
  merging.toF16 = { toF16(Lanes.self, $0, $1, $2) }
  merging.add_f32 = { add_f32(Lanes.self, $0, $1, $2) }
  merging.countBeyond_f32 = { countBeyond_f32(Lanes.self, $0, $1, $2) }
  merging.countWithin_f32 = { countWithin_f32(Lanes.self, $0, $1, $2, $3, $4) }
  merging.countSigns_f32 = { countSigns_f32(Lanes.self, $0, $1, $2, $3) }
  merging.measure_f32 = { measure_f32(Lanes.self, $0, $1, $2, $3, $4, $5) }
  merging.relate_f32 = { relate_f32(Lanes.self, $0, $1, $2, $3, $4) }
  merging.histogram_f32 = { histogram_f32(Lanes.self, $0, $1, $2) }
  merging.collect_f32 = { collect_f32(Lanes.self, $0, $1, $2, $3) }
  merging.collectBetween_f32 = { collectBetween_f32(Lanes.self, $0, $1, $2, $3, $4, $5) }
  merging.cut_f32 = { cut_f32(Lanes.self, $0, $1, $2) }
  merging.thin_f32 = { thin_f32(Lanes.self, $0, $1, $2, $3, $4) }
  merging.draw_bits = { draw_bits(Lanes.self, $0, $1, $2, $3, $4) }
  merging.keep_f32 = { keep_f32(Lanes.self, $0, $1, $2) }
  merging.combine_f32 = { combine_f32(Lanes.self, $0, $1, $2, $3, $4) }
  merging.agree_f32 = { agree_f32(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7, $8) }
  merging.survey_bf16 = { survey_bf16(Lanes.self, $0, $1, $2, $3, $4, $5, $6) }
  merging.collectBetween_bf16 = {
    collectBetween_bf16(Lanes.self, $0, $1, $2, $3, $4, $5, $6)
  }
  merging.drawSums_bf16 = { drawSums_bf16(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7) }
  merging.agree_bf16 = {
    agree_bf16(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
  }
  merging.finish_bf16 = { finish_bf16(Lanes.self, $0, $1, $2, $3, $4, $5) }
}
