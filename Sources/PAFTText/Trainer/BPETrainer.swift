// SPDX-License-Identifier: Apache-2.0

package import PAFTBase
import PAFTFormats

/// Learns a byte-level BPE vocabulary (Sennrich et al. 2016; words and byte alphabet of GPT-2).
///
/// Ids: special tokens in their given order, then the 256 bytes ordered by their printable
/// character, then one token per merge. The next merge is the most frequent pair; among equals the
/// one with the smaller left id, then the smaller right id. So the same texts, in any order, give
/// the same tokenizer, and the same one as Hugging Face's `BpeTrainer`.
package struct BPETrainer: Sendable {
  package var vocabularySize: Int
  package var specialTokens: [String]
  /// A pair seen less often is not merged.
  package var minimumFrequency: Int

  package init(vocabularySize: Int, specialTokens: [String] = [], minimumFrequency: Int = 2) {
    self.vocabularySize = vocabularySize
    self.specialTokens = specialTokens
    self.minimumFrequency = minimumFrequency
  }

  /// - Throws: exit code 78 if the vocabulary has no room for the bytes and special tokens, or a
  ///   special token is empty or named twice.
  package func train(_ texts: some Sequence<String>) throws(Fault) -> TrainedTokenizer {
    let alphabet = ByteAlphabet.scalars.sorted { $0.value < $1.value }.map { String($0) }
    try check(alphabet)
    var tokens = specialTokens + alphabet
    var ids = ByteTable(expecting: vocabularySize)
    for (id, token) in tokens.enumerated() { ids.insert(token.utf8, Int32(id)) }
    let byteIDs = ByteAlphabet.scalars.map { ids.find(String($0).utf8)! }

    var corpus = try words(of: texts, byteIDs)
    var merges: [(String, String)] = []
    var heap = Heap()
    for (pair, count) in corpus.counts where count > 0 { heap.push(Candidate(count, pair)) }
    while tokens.count < vocabularySize, let top = heap.pop() {
      let count = corpus.counts[top.pair] ?? 0
      if count != top.count {
        // The pair lost occurrences to other merges since it was queued.
        if count > 0 { heap.push(Candidate(count, top.pair)) }
        continue
      }
      if count < max(1, minimumFrequency) { break }
      let left = tokens[Int(top.pair >> 32)]
      let right = tokens[Int(top.pair & 0xFFFF_FFFF)]
      let joined = left + right
      let id: Int32
      if let known = ids.find(joined.utf8) {
        id = known  // "a b+c" and "a+b c" can meet in one token
      } else {
        id = Int32(tokens.count)
        ids.insert(joined.utf8, id)
        tokens.append(joined)
      }
      merges.append((left, right))
      for pair in corpus.merge(top.pair, into: id) {
        heap.push(Candidate(corpus.counts[pair] ?? 0, pair))
      }
    }
    return TrainedTokenizer(
      vocabulary: tokens, merges: merges, specialTokens: specialTokens)
  }

  private func check(_ alphabet: [String]) throws(Fault) {
    let least = specialTokens.count + alphabet.count
    guard vocabularySize >= least, vocabularySize <= Vocabulary.idLimit else {
      throw Fault(
        .configuration,
        "a vocabulary of \(vocabularySize), expected \(least) (256 bytes and "
          + "\(specialTokens.count) special tokens) to \(Vocabulary.idLimit)")
    }
    var seen = Set(alphabet.map { ByteKey($0) })
    for token in specialTokens {
      guard !token.isEmpty, seen.insert(ByteKey(token)).inserted else {
        throw Fault(
          .configuration,
          "special token \(quoted(token)) is empty, named twice, or a single character of the alphabet"
        )
      }
    }
  }

  private func words(of texts: some Sequence<String>, _ byteIDs: [Int32]) throws(Fault) -> Corpus {
    let pattern = try Pattern(PreTokenizer.gpt2Words, file: "trainer")
    let matcher = Matcher()
    var index = ByteTable(expecting: 1 << 12)
    var corpus = Corpus()
    for text in texts {
      let bytes = Array(text.utf8)
      try bytes.withUnsafeBufferPointer { (buffer) throws(Fault) in
        try pattern.forEachMatch(in: buffer, matcher) { range in
          let word = UnsafeBufferPointer(rebasing: buffer[range])
          if let known = index.find(word) {
            corpus.frequencies[Int(known)] += 1
          } else {
            index.insert(word, Int32(corpus.words.count))
            corpus.words.append(word.map { byteIDs[Int($0)] })
            corpus.frequencies.append(1)
          }
        }
      }
    }
    corpus.countPairs()
    return corpus
  }
}

/// The distinct words as token ids, how often each occurs, and where each pair of ids stands.
private struct Corpus {
  var words: [[Int32]] = []
  var frequencies: [Int] = []
  private(set) var counts: [UInt64: Int] = [:]
  /// Words that have, or once had, the pair.
  private var places: [UInt64: [Int32]] = [:]

  mutating func countPairs() {
    for word in words.indices { note(word, +1) { _ in } }
  }

  /// Joins the pair wherever it stands; returns the pairs that came into being, in no order.
  mutating func merge(_ pair: UInt64, into id: Int32) -> Set<UInt64> {
    let left = Int32(truncatingIfNeeded: pair >> 32)
    let right = Int32(truncatingIfNeeded: pair)
    var born: Set<UInt64> = []
    var last: Int32 = -1
    for word in (places.removeValue(forKey: pair) ?? []).sorted() where word != last {
      last = word
      let old = words[Int(word)]
      var new: [Int32] = []
      new.reserveCapacity(old.count)
      var at = 0
      while at < old.count {
        if at + 1 < old.count, old[at] == left, old[at + 1] == right {
          new.append(id)
          at += 2
        } else {
          new.append(old[at])
          at += 1
        }
      }
      if new.count == old.count { continue }
      note(Int(word), -1) { _ in }
      words[Int(word)] = new
      note(Int(word), +1) {
        if $0 >> 32 == id || Int32(truncatingIfNeeded: $0) == id { born.insert($0) }
      }
    }
    return born
  }

  private mutating func note(_ word: Int, _ sign: Int, _ body: (UInt64) -> Void) {
    let symbols = words[word]
    for i in symbols.indices.dropFirst() {
      let pair = MergeTable.pack(symbols[i - 1], symbols[i])
      counts[pair, default: 0] += sign * frequencies[word]
      if sign > 0 {
        if places[pair]?.last != Int32(word) { places[pair, default: []].append(Int32(word)) }
        body(pair)
      }
    }
  }
}

private struct Candidate {
  let count: Int
  let pair: UInt64

  init(_ count: Int, _ pair: UInt64) {
    self.count = count
    self.pair = pair
  }

  func precedes(_ other: Candidate) -> Bool {
    count != other.count ? count > other.count : pair < other.pair
  }
}

/// A binary heap, best candidate on top.
private struct Heap {
  private var items: [Candidate] = []

  mutating func push(_ item: Candidate) {
    items.append(item)
    var child = items.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard items[child].precedes(items[parent]) else { return }
      items.swapAt(parent, child)
      child = parent
    }
  }

  mutating func pop() -> Candidate? {
    guard let top = items.first, let last = items.popLast() else { return nil }
    if items.isEmpty { return top }
    items[0] = last
    var parent = 0
    while true {
      var child = 2 * parent + 1
      guard child < items.count else { return top }
      if child + 1 < items.count, items[child + 1].precedes(items[child]) { child += 1 }
      guard items[child].precedes(items[parent]) else { return top }
      items.swapAt(parent, child)
      parent = child
    }
  }
}
