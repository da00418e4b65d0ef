// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTKernels
import Testing

@Suite struct DispatchTests {
  @Test("The last available table is the default, the reference is always there")
  func choice() throws {
    let names = KernelTable.available.map(\.name)
    #expect(names.first == "reference")
    #expect(try KernelTable.select(forced: nil).name == names.last)
    for name in names { #expect(try KernelTable.select(forced: name).name == name) }
    print("kernel tables here: \(names.joined(separator: ", "))")
  }

  @Test("An unknown or unsupported name is one line with a hint")
  func mistakes() throws {
    let here = KernelTable.available.map(\.name)
    for name in ["avx51", "", "AVX2", "reference", "avx2", "avx512", "avx512bf16", "amx"]
    where !here.contains(name) {
      let fault = #expect(throws: Fault.self) { try KernelTable.select(forced: name) }
      #expect(fault?.exitCode == .configuration)
      #expect(fault?.message.contains("'\(name)'") == true)
      #expect(fault?.message.contains("\n") == false)
      for table in here { #expect(fault?.hint?.contains(table) == true) }
    }
    let fault = #expect(throws: Fault.self) { try KernelTable.select(forced: "avx51") }
    #expect(fault?.hint?.contains("did you mean") == true)
  }

  @Test("Tiles agree with the panel layout", arguments: KernelTable.available)
  func tiles(table: KernelTable) {
    #expect(table.gemm.tile_f32.columns % table.gemm.tile_f32.lanes == 0)
    #expect(table.gemm.tile_f32.width(1) == table.gemm.tile_f32.lanes)
    #expect(
      table.gemm.tile_f32.width(table.gemm.tile_f32.lanes + 1) == 2 * table.gemm.tile_f32.lanes)
    #expect(table.gemm.tile_f32.width(table.gemm.tile_f32.columns) == table.gemm.tile_f32.columns)
  }
}
