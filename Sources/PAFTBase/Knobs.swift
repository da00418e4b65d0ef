// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Every environment variable that paft reads, on one page. Nothing else calls getenv.
package enum Knobs {
  package struct Knob: Sendable {
    package let name: String
    package let meaning: String
  }

  package static let all: [Knob] = [
    Knob(
      name: "PAFT_ISA", meaning: "force a kernel table: reference, avx2, avx512, avx512bf16, amx"),
    Knob(name: "PAFT_THREADS", meaning: "worker threads, at most the CPUs granted"),
    Knob(name: "PAFT_PIN", meaning: "0 leaves workers unpinned (default 1)"),
    Knob(name: "PAFT_DATA", meaning: "folder of real models and data for the tests"),
  ]

  package static var isa: String? { value("PAFT_ISA") }
  package static var threads: Int? { value("PAFT_THREADS").flatMap { Int($0) } }
  /// Throws 78 for a value that would silently count for nothing.
  package static func check() throws(Fault) {
    if let text = value("PAFT_THREADS"), (Int(text) ?? 0) < 1 {
      throw Fault(
        .configuration, "environment variable PAFT_THREADS is '\(text)', expected a number >= 1")
    }
    if let text = value("PAFT_PIN"), text != "0", text != "1" {
      throw Fault(.configuration, "environment variable PAFT_PIN is '\(text)', expected 0 or 1")
    }
  }

  package static var pin: Bool { value("PAFT_PIN") != "0" }
  package static var testData: String? { value("PAFT_DATA") }

  private static func value(_ name: String) -> String? {
    guard let raw = getenv(name) else { return nil }
    let text = String(cString: raw)
    return text.isEmpty ? nil : text
  }
}
