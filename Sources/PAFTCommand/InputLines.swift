// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Lines of standard input as bytes, each given as soon as it is there.
enum InputLines {
  static func forEach(_ body: (_ line: [UInt8], _ number: Int) throws -> Void) throws {
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    var line: [UInt8] = []
    var number = 0
    while true {
      let count = read(STDIN_FILENO, &piece, piece.count)
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { break }
      var rest = piece[..<count]
      while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
        line += rest[..<end]
        number += 1
        try body(line, number)
        line.removeAll(keepingCapacity: true)
        rest = rest[(end + 1)...]
      }
      line += rest
    }
    if !line.isEmpty { try body(line, number + 1) }
  }
}
