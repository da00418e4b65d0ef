// SPDX-License-Identifier: Apache-2.0

import CVector
import PAFTBase
import PAFTKernelAMX
import PAFTKernelAVX2
import PAFTKernelAVX512
import PAFTKernelAVX512BF16
@_exported import PAFTKernelInterface

/// The choice of a kernel table, made once at start; nothing below asks again what the CPU has.
extension KernelTable {
  /// Every table this CPU (and its operating system) can run, from slowest to fastest.
  package static var available: [KernelTable] {
    let features = paft_cpu_features()
    var tables = [reference]
    func append(_ feature: Int, _ override: (inout KernelTable) -> Void) {
      guard features & UInt32(feature) != 0 else { return }
      var table = reference
      override(&table)
      tables.append(table)
    }
    append(Int(PAFT_CPU_AVX2), KernelTable.avx2)
    append(Int(PAFT_CPU_AVX512), KernelTable.avx512)
    append(Int(PAFT_CPU_AVX512BF16), KernelTable.avx512bf16)
    // Tile registers must be asked for; a refusal (an old kernel, a sandbox) means to do without.
    if features & UInt32(PAFT_CPU_AMX) != 0 && paft_permit_tiles() != 0 {
      append(Int(PAFT_CPU_AMX)) { table in
        KernelTable.avx512bf16(&table)
        KernelTable.amx(&table)
      }
    }
    return tables
  }

  /// The fastest table, or the one named `forced`.
  /// - Throws: `Fault(.configuration)` when `forced` is no table or one this CPU cannot run.
  package static func select(forced: String?) throws -> KernelTable {
    let tables = available
    guard let forced else { return tables.last! }
    if let table = tables.first(where: { $0.name == forced }) { return table }
    let known = ["reference", "avx2", "avx512", "avx512bf16", "amx"]
    let here = tables.map(\.name).joined(separator: ", ")
    if known.contains(forced) {
      throw Fault(
        .configuration, "this CPU cannot run the instruction set '\(forced)'",
        hint: "available here: \(here)")
    }
    throw Fault(
      .configuration,
      "unknown instruction set '\(forced)', expected one of \(known.joined(separator: ", "))",
      hint: nearest(to: forced, in: known).map { "did you mean '\($0)'? available here: \(here)" }
        ?? "available here: \(here)")
  }
}
