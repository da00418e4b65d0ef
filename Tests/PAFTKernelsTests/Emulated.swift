// SPDX-License-Identifier: Apache-2.0

import EmulatedAMX
import PAFTKernels

extension KernelTable {
  /// The AMX table with its instructions emulated, where the rest of it can run: no processor with
  /// AMX was at hand. Layouts, edges and registers are those of the real module, whose text this is.
  static let emulatedAMX: KernelTable? = {
    guard var table = available.first(where: { $0.name == "avx512bf16" }) else { return nil }
    amx(&table)
    table.name = "emulated amx"
    return table
  }()

  /// Every table this CPU can run, and AMX by emulation of its instructions.
  static let availableOrEmulated = available + (emulatedAMX.map { [$0] } ?? [])
}
