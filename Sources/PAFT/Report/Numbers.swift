// SPDX-License-Identifier: Apache-2.0

/// Numbers as people read them in tables and messages, without locale and without Foundation.
package enum Numbers {
  /// `digits` places after the point, rounded half to even by the digits shown.
  package static func fixed(_ value: Double, _ digits: Int) -> String {
    guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = (abs(value) * scale).rounded()
    guard scaled < 1e15 else { return short(value) }
    let whole = Int(scaled)
    let unit = Int(scale)
    let sign = value < 0 && whole != 0 ? "-" : ""
    guard digits > 0 else { return sign + "\(whole)" }
    let fraction = String(whole % unit)
    return sign + "\(whole / unit)." + String(repeating: "0", count: digits - fraction.count)
      + fraction
  }

  /// 0.9 → "90.0 %".
  package static func percent(_ share: Double, _ digits: Int = 1) -> String {
    fixed(100 * share, digits) + " %"
  }

  /// The shortest text that reads back to the same value, without a needless ".0".
  package static func short(_ value: Double) -> String {
    let text = value.description
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }

  /// Three significant digits: 0.0123, 1.23e-05, 12.3.
  package static func significant(_ value: Double) -> String {
    guard value.isFinite, value != 0 else { return value == 0 ? "0" : fixed(value, 0) }
    let size = abs(value)
    if size >= 1e-3, size < 1e6 {
      return fixed(
        value,
        size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : size >= 0.01 ? 4 : 5)
    }
    var exponent = 0
    var mantissa = size
    while mantissa >= 10 { mantissa /= 10; exponent += 1 }
    while mantissa < 1 { mantissa *= 10; exponent -= 1 }
    if (mantissa * 100).rounded() >= 1000 { mantissa /= 10; exponent += 1 }
    let digits = String(abs(exponent))
    return (value < 0 ? "-" : "") + fixed(mantissa, 2) + "e" + (exponent < 0 ? "-" : "+")
      + (digits.count < 2 ? "0" : "") + digits
  }

  /// 1234567 → "1,234,567".
  package static func grouped(_ value: Int) -> String {
    let digits = Array(String(value.magnitude))
    var out = value < 0 ? "-" : ""
    for (i, digit) in digits.enumerated() {
      if i > 0, (digits.count - i) % 3 == 0 { out += "," }
      out.append(digit)
    }
    return out
  }

  /// 75 → "1:15", 3700 → "1:01:40", 0.25 → "0.25 s".
  package static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds < 1e9 else { return "?" }
    if seconds < 10 { return fixed(seconds, 2) + " s" }
    if seconds < 60 { return fixed(seconds, 1) + " s" }
    let whole = Int(seconds.rounded())
    func two(_ n: Int) -> String { n < 10 ? "0\(n)" : "\(n)" }
    return whole < 3600
      ? "\(whole / 60):\(two(whole % 60))"
      : "\(whole / 3600):\(two(whole / 60 % 60)):\(two(whole % 60))"
  }
}
