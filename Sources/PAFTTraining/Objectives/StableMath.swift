// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The functions that preference losses are made of, in the forms that neither overflow nor cancel
/// (Mächler 2012, "Accurately computing log(1 - exp(-|a|))").
package enum StableMath {
  /// log(1 + exp(x)); -log(sigmoid(x)) is `softplus(-x)`.
  package static func softplus(_ x: Double) -> Double {
    max(x, 0) + log1p(exp(-abs(x)))
  }

  /// 1 / (1 + exp(-x)), with the small side exact.
  package static func sigmoid(_ x: Double) -> Double {
    let e = exp(-abs(x))
    return x >= 0 ? 1 / (1 + e) : e / (1 + e)
  }

  /// sigmoid'(x) = sigmoid(x) * sigmoid(-x).
  package static func sigmoidSlope(_ x: Double) -> Double {
    let e = exp(-abs(x))
    return e / ((1 + e) * (1 + e))
  }

  /// log(1 - exp(p)) for p < 0: the log-probability of "not this".
  package static func log1mexp(_ p: Double) -> Double {
    p < -0.693_147_180_559_945_3 ? log1p(-exp(p)) : log(-expm1(p))
  }

  /// d log1mexp / dp = -exp(p) / (1 - exp(p)).
  package static func log1mexpSlope(_ p: Double) -> Double { -1 / expm1(-p) }

  /// exp(min(x, limit)) and whether x was inside: outside, the value is flat and its slope is 0.
  package static func clampedExp(_ x: Double, limit: Double = 80) -> (value: Double, slope: Double)
  {
    x > limit ? (exp(limit), 0) : (exp(x), exp(x))
  }

  /// Natural logarithm, so that files of formulas need no C library of their own.
  static func ln(_ x: Double) -> Double { log(x) }
}
