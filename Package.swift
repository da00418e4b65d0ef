// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
//
// The house: one target per room, imports point down only (tools/check-imports holds this).
// Kernel targets carry the instruction set they are compiled for; everything else is baseline x86-64.

import Foundation
import PackageDescription

/// Flags of one instruction set, handed to clang so that imported vector verbs and Swift SIMD agree.
let avx2 = ["avx2", "fma", "f16c", "bmi2", "popcnt"]
let avx512 = avx2 + ["avx512f", "avx512bw", "avx512dq", "avx512vl"]
let avx512bf16 = avx512 + ["avx512bf16", "avx512vnni"]
let amx = avx512bf16 + ["amx-tile", "amx-bf16", "amx-int8"]

func isa(_ features: [String]) -> [SwiftSetting] {
  [.unsafeFlags(features.flatMap { ["-Xcc", "-m" + $0] })]
}

/// libomp lives where Debian's libomp-dev puts it: among the files of one version of LLVM.
let ompLibrary =
  (14...40).lazy.map { "/usr/lib/llvm-\($0)/lib" }
  .first { FileManager.default.fileExists(atPath: $0 + "/libomp.so") } ?? "/usr/lib/llvm-14/lib"

let kernels = "Sources/PAFTKernels"

let package = Package(
  name: "paft",
  products: [
    .library(name: "PAFT", targets: ["PAFT"]),
    .executable(name: "paft", targets: ["PAFTCommand"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.0.0"),
  ],
  targets: [
    // MARK: what Swift cannot say
    .target(name: "CVector", path: "CSupport/CVector"),
    .target(
      name: "CMachine", path: "CSupport/CMachine",
      cSettings: [.unsafeFlags(["-fopenmp"])],
      linkerSettings: [
        .unsafeFlags(["-L" + ompLibrary, "-Xlinker", "-rpath", "-Xlinker", ompLibrary]),
        .linkedLibrary("omp"), .linkedLibrary("numa"),
      ]),
    .target(name: "CAllocationCounter", path: "CSupport/CAllocationCounter"),  // tests only
    .systemLibrary(
      name: "CPCRE2", path: "CSupport/CPCRE2", pkgConfig: "libpcre2-8",
      providers: [.apt(["libpcre2-dev"])]),
    .systemLibrary(
      name: "CZlib", path: "CSupport/CZlib", pkgConfig: "zlib",
      providers: [.apt(["zlib1g-dev"])]),

    // MARK: the ground floor
    .target(name: "PAFTBase"),
    .target(name: "PAFTMachine", dependencies: ["PAFTBase", "CMachine"]),
    .target(
      name: "PAFTFormats",
      dependencies: ["PAFTBase", "CZlib", .product(name: "Yams", package: "Yams")]),

    // MARK: kernels, one module per instruction set
    .target(
      name: "PAFTKernelInterface", dependencies: ["PAFTBase"], path: kernels,
      sources: ["Interface", "Reference"]),
    .target(
      name: "PAFTKernelBodies", dependencies: ["PAFTKernelInterface", "CVector"],
      path: kernels + "/Bodies"),
    .target(
      name: "PAFTKernelAVX2",
      dependencies: ["PAFTKernelInterface", "PAFTKernelBodies", "CVector"],
      path: kernels + "/AVX2", swiftSettings: isa(avx2)),
    .target(
      name: "PAFTKernelAVX512",
      dependencies: ["PAFTKernelInterface", "PAFTKernelBodies", "CVector"],
      path: kernels + "/AVX512", swiftSettings: isa(avx512)),
    .target(
      name: "PAFTKernelAVX512BF16",
      dependencies: ["PAFTKernelInterface", "PAFTKernelBodies", "CVector"],
      path: kernels + "/AVX512BF16", swiftSettings: isa(avx512bf16)),
    .target(
      name: "PAFTKernelAMX",
      dependencies: ["PAFTKernelInterface", "PAFTKernelBodies", "CVector"],
      path: kernels + "/AMX", swiftSettings: isa(amx)),
    .target(
      name: "PAFTKernels",
      dependencies: [
        "PAFTBase", "PAFTKernelInterface", "PAFTKernelAVX2", "PAFTKernelAVX512",
        "PAFTKernelAVX512BF16", "PAFTKernelAMX", "CVector",
      ],
      path: kernels + "/Dispatch"),

    // MARK: upstairs. SwiftPM builds a target again when a direct dependency has changed: whoever uses
    // the kernel table's layout, or a type of a room further down, names that room too.
    .target(name: "PAFTText", dependencies: ["PAFTBase", "PAFTFormats", "CPCRE2"]),
    .target(
      name: "PAFTOps",
      dependencies: ["PAFTBase", "PAFTMachine", "PAFTKernels", "PAFTKernelInterface"]),
    .target(
      name: "PAFTModels",
      dependencies: ["PAFTBase", "PAFTFormats", "PAFTOps", "PAFTKernelInterface"]),
    .target(
      name: "PAFTTraining",
      dependencies: [
        "PAFTBase", "PAFTFormats", "PAFTMachine", "PAFTKernels", "PAFTText", "PAFTOps",
        "PAFTModels", "PAFTKernelInterface",
      ]),
    .target(
      name: "PAFTMerging",
      dependencies: ["PAFTBase", "PAFTFormats", "PAFTKernels", "PAFTKernelInterface"]),
    .target(name: "PAFTExample", dependencies: ["PAFTBase"]),
    .target(
      name: "PAFT",
      dependencies: [
        "PAFTBase", "PAFTFormats", "PAFTMachine", "PAFTKernels", "PAFTText", "PAFTOps",
        "PAFTModels", "PAFTTraining", "PAFTMerging", "PAFTExample", "PAFTKernelInterface",
      ]),
    .executableTarget(
      name: "PAFTCommand",
      dependencies: ["PAFT", .product(name: "ArgumentParser", package: "swift-argument-parser")]),

    // MARK: tests
    .target(
      name: "PAFTTestSupport", dependencies: ["PAFTBase", "PAFTFormats"], path: "Tests/Support"),
    .testTarget(name: "PAFTBaseTests", dependencies: ["PAFTBase"]),
    .testTarget(
      name: "PAFTMachineTests",
      dependencies: ["PAFTMachine", "CMachine", "PAFTTestSupport", "CAllocationCounter"]),
    .testTarget(name: "PAFTFormatsTests", dependencies: ["PAFTFormats", "PAFTTestSupport"]),
    .target(
      name: "EmulatedAMX",
      dependencies: ["PAFTKernelInterface", "PAFTKernelBodies", "CVector"],
      path: "Tests/EmulatedAMX", swiftSettings: isa(avx512bf16)),
    .testTarget(
      name: "PAFTKernelsTests",
      dependencies: [
        "PAFTBase", "PAFTKernels", "PAFTKernelInterface", "EmulatedAMX", "PAFTTestSupport",
      ]),
    .testTarget(name: "PAFTTextTests", dependencies: ["PAFTText", "PAFTTestSupport"]),
    .testTarget(
      name: "PAFTOpsTests",
      dependencies: [
        "PAFTOps", "PAFTKernelInterface", "EmulatedAMX", "PAFTTestSupport", "CAllocationCounter",
      ]),
    .testTarget(
      name: "PAFTModelsTests",
      dependencies: ["PAFTModels", "PAFTOps", "PAFTKernelInterface", "PAFTTestSupport"]),
    .testTarget(
      name: "PAFTTrainingTests",
      dependencies: [
        "PAFTTraining", "PAFTModels", "PAFTOps", "PAFTKernelInterface", "PAFTKernels",
        "PAFTTestSupport", "CAllocationCounter",
      ]),
    .testTarget(
      name: "PAFTMergingTests",
      dependencies: ["PAFTMerging", "PAFTKernelInterface", "PAFTTestSupport"]),
    .testTarget(name: "PAFTExampleTests", dependencies: ["PAFTExample", "PAFTTestSupport"]),
    .testTarget(
      name: "PAFTTests",
      dependencies: [
        "PAFT", "PAFTBase", "PAFTFormats", "PAFTMachine", "PAFTModels", "PAFTOps", "PAFTTraining",
        "PAFTMerging", "PAFTKernelInterface", "PAFTTestSupport",
      ]),
    .testTarget(name: "PAFTHouseTests", dependencies: ["PAFTTestSupport"]),
  ]
)

for target in package.targets where target.type != .system && target.type != .plugin {
  var settings = target.swiftSettings ?? []
  settings.append(.enableUpcomingFeature("ExistentialAny"))
  settings.append(.enableUpcomingFeature("MemberImportVisibility"))
  target.swiftSettings = settings
}
