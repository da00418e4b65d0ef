// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTTestSupport
import PAFTText
import Testing

/// A JSON fixture of this room.
func fixture(_ name: String) throws -> JSON {
  try JSON.read(path: TestData.fixture("text/" + name))
}

extension JSON {
  /// An array of integers as token ids.
  var ids: [Int32] { (array ?? []).compactMap { $0.int.map(Int32.init) } }
  var strings: [String] { (array ?? []).compactMap(\.string) }
}

/// The error that `body` throws, as a fault.
func fault(_ body: () throws -> Void) -> Fault? {
  do {
    try body()
    return nil
  } catch { return error as? Fault }
}

/// Byte for byte: Swift's own equality calls two spellings of an accent equal.
func sameBytes(_ a: String, _ b: String) -> Bool { a.utf8.elementsEqual(b.utf8) }

let gpt2File = TestData.shared("tokenizers/gpt2/tokenizer.json")
let phi3Folder = TestData.shared("tokenizers/phi-3-mini")
let storyFolder = TestData.shared("models/story-llama-0.66M")
/// Why a test is skipped where the big files are absent.
let noSharedData: Comment = "needs the shared data folder (PAFT_DATA), absent on this machine"
