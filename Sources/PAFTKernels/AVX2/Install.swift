// SPDX-License-Identifier: Apache-2.0

import PAFTKernelBodies
import PAFTKernelInterface

/// Compiles every body but the GEMM tile for this module's `Lanes` and puts it into `table`.
/// This file is one text in all ISA modules (a link), because a C function pointer cannot be formed
/// from a generic: the closures have to be written where the instruction set is known.
func install(_ table: inout KernelTable) {
  table.packA_f32 = { packA_f32(Lanes.self, $0, $1, $2, $3, $4) }
  table.packA_bf16 = { packA_bf16(Lanes.self, $0, $1, $2, $3, $4) }
  table.packAT_f32 = { packAT_f32(Lanes.self, $0, $1, $2, $3, $4) }
  table.packAT_bf16 = { packAT_bf16(Lanes.self, $0, $1, $2, $3, $4) }
  table.packB_f32 = { packB_f32(Lanes.self, $0, $1, $2, $3, $4) }
  table.packB_bf16 = { packB_bf16(Lanes.self, $0, $1, $2, $3, $4) }
  table.packBT_f32 = { packBT_f32(Lanes.self, $0, $1, $2, $3, $4) }
  table.packBT_bf16 = { packBT_bf16(Lanes.self, $0, $1, $2, $3, $4) }
  table.rmsNorm_f32 = { rmsNorm_f32(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7) }
  table.rmsNormBackward_f32 = {
    rmsNormBackward_f32(Lanes.self, $0, $1, $2, $3, $4, $5, $6, $7, $8, $9)
  }
  table.rope_f32 = { rope_f32(Lanes.self, $0, $1, $2, $3, $4, $5) }
  table.swiglu_f32 = { swiglu_f32(Lanes.self, $0, $1, $2, $3) }
  table.swigluBackward_f32 = { swigluBackward_f32(Lanes.self, $0, $1, $2, $3, $4, $5) }
  table.softmaxOnline_f32 = { softmaxOnline_f32(Lanes.self, $0, $1, $2, $3) }
  table.softmaxBackward_f32 = { softmaxBackward_f32(Lanes.self, $0, $1, $2, $3, $4, $5) }
  table.logSumExp_f32 = { logSumExp_f32(Lanes.self, $0, $1, $2) }
  table.softmaxGradient_f32 = { softmaxGradient_f32(Lanes.self, $0, $1, $2, $3) }
  table.argmax_f32 = { argmax_f32(Lanes.self, $0, $1) }
  table.axpy_f32 = { axpy_f32(Lanes.self, $0, $1, $2, $3) }
  table.scale_f32 = { scale_f32(Lanes.self, $0, $1, $2) }
  table.dot_f32 = { dot_f32(Lanes.self, $0, $1, $2) }
  table.sumSquares_f32 = { dot_f32(Lanes.self, $0, $0, $1) }
  table.sumAbsolute_f32 = { sumAbsolute_f32(Lanes.self, $0, $1) }
  table.sign_f32 = { sign_f32(Lanes.self, $0, $1) }
  table.toBF16 = { toBF16(Lanes.self, $0, $1, $2) }
  table.fromBF16 = { fromBF16(Lanes.self, $0, $1, $2) }
  table.adamW_f32 = { adamW_f32(Lanes.self, $0, $1, $2, $3, $4, $5) }
  table.softThreshold_f32 = { softThreshold_f32(Lanes.self, $0, $1, $2, $3) }
}
