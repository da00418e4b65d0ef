// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTTestSupport
import Testing

/// The value of a small float by its definition, in Double.
private func value(_ code: Int, exponentBits e: Int, fractionBits m: Int, hasInfinity: Bool)
  -> Double
{
  let bias = (1 << (e - 1)) - 1
  let exponent = (code >> m) & ((1 << e) - 1)
  let fraction = Double(code & ((1 << m) - 1)) / Double(1 << m)
  let sign = (code >> (e + m)) & 1 == 1 ? -1.0 : 1.0
  let top = exponent == (1 << e) - 1
  if top && hasInfinity { return fraction == 0 ? sign * .infinity : .nan }
  if top && fraction == 1 - 1 / Double(1 << m) { return .nan }
  if exponent == 0 {
    return sign * fraction * Double(sign: .plus, exponent: 1 - bias, significand: 1)
  }
  return sign * Double(sign: .plus, exponent: exponent - bias, significand: 1 + fraction)
}

/// Writes the codes as one tensor of `dtype` and reads them as floats.
private func decode<T: FixedWidthInteger>(_ codes: [T], _ dtype: DType, odd: Bool) throws -> [Float]
{
  let folder = TestData.temporaryFolder()
  defer { try? FileSystem.remove(folder) }
  let bytes = codes.withUnsafeBytes { Array($0) }
  // An odd header length puts every element at an odd address.
  var header =
    #"{"t":{"dtype":"\#(dtype.rawValue)","shape":[\#(codes.count)],"data_offsets":[0,\#(bytes.count)]}}"#
  while (header.utf8.count % 2 == 1) != odd { header += " " }
  let length = (0..<8).map { UInt8(truncatingIfNeeded: header.utf8.count >> (8 * $0)) }
  try FileSystem.write(length + Array(header.utf8) + bytes, to: folder + "/t")
  return try Safetensors(path: folder + "/t")["t"]!.floats()
}

private func same(_ a: Float, _ b: Double) -> Bool {
  b.isNaN ? a.isNaN : Double(a) == b && (a.sign == b.sign)
}

@Suite struct FloatDecodingTests {
  @Test(arguments: [false, true]) func everyHalfAndBrainFloatMeansWhatItsBitsSay(odd: Bool) throws {
    let codes = (0...UInt16.max).map { $0 }
    let halves = try decode(codes, .f16, odd: odd)
    let brains = try decode(codes, .bf16, odd: odd)
    let wrong = codes.filter {
      !same(halves[Int($0)], value(Int($0), exponentBits: 5, fractionBits: 10, hasInfinity: true))
        || !same(
          brains[Int($0)], value(Int($0), exponentBits: 8, fractionBits: 7, hasInfinity: true))
    }
    #expect(wrong.isEmpty)
  }

  @Test func everyEightBitFloatMeansWhatItsBitsSay() throws {
    let codes = (0...UInt8.max).map { $0 }
    let e4m3 = try decode(codes, .f8e4m3, odd: true)
    let e5m2 = try decode(codes, .f8e5m2, odd: false)
    for code in 0..<256 {
      #expect(same(e4m3[code], value(code, exponentBits: 4, fractionBits: 3, hasInfinity: false)))
      #expect(same(e5m2[code], value(code, exponentBits: 5, fractionBits: 2, hasInfinity: true)))
    }
    #expect(e4m3[0x7E] == 448 && e5m2[0x7B] == 57344)
  }

  @Test func doublesRoundAndSinglesAreCopied() throws {
    let doubles: [Double] = [0, -0.0, 1.0 / 3, 1e300, -1e-300, .pi, 16_777_217]
    let read = try decode(doubles.map(\.bitPattern), .f64, odd: true)
    #expect(zip(read, doubles).allSatisfy { $0.bitPattern == Float($1).bitPattern })
    let singles: [Float] = [0, -0.0, 1.5, .infinity, .leastNonzeroMagnitude]
    #expect(try decode(singles.map(\.bitPattern), .f32, odd: true) == singles)
  }
}
