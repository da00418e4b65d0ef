// SPDX-License-Identifier: Apache-2.0

/// A number of bytes as people read it: "512 KiB", "1.5 GiB".
package struct ByteCount: CustomStringConvertible, Sendable {
  package let bytes: Int

  package init(_ bytes: Int) { self.bytes = bytes }

  package var description: String {
    if bytes < 1024 { return "\(bytes) B" }
    var value = Double(bytes)
    var unit = 0
    while value >= 1024, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    let tenths = (value * 10).rounded() / 10
    let whole = tenths == tenths.rounded() || tenths >= 100
    return (whole ? "\(Int(tenths.rounded()))" : "\(tenths)") + " " + units[unit]
  }
}

private let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
