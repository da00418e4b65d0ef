// SPDX-License-Identifier: Apache-2.0

/// The prompt that instruction data of the Alpaca kind is trained with (Taori et al. 2023, in the
/// wording that leaves an empty input out).
package enum Alpaca {
  package static func prompt(instruction: String, input: String) -> String {
    let head =
      "Below is an instruction that describes a task. "
      + "Write a response that appropriately completes the request."
    let middle = input.isEmpty ? "" : "\n\n### Input:\n" + input
    return head + "\n\n### Instruction:\n" + instruction + middle + "\n\n### Response:\n"
  }
}
