// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFT
import PAFTFormats
import PAFTMachine
import PAFTTestSupport
import Testing

@Suite("paft profile")
struct ProfileTests {
  private static let model = TestData.fixture("models/llama")

  private func verb(
    _ objective: String = "sft", isFull: Bool = false, threads: Int = 2, steps: Int = 2
  ) -> ProfileVerb {
    var verb = ProfileVerb()
    verb.model = Self.model
    verb.step.objective = objective
    verb.step.isFull = isFull
    verb.step.rank = 2
    verb.step.length = 12
    verb.step.batch = 3
    verb.steps = steps
    verb.compute = ComputeOptions(threads: threads)
    return verb
  }

  private struct Sizes {
    let layers, hidden, wide, heads, keyHeads, headSize, vocabulary: Int
    init() throws {
      let config = try JSON.read(path: ProfileTests.model + "/config.json")
      func number(_ key: String) throws -> Int { try #require(config[key]?.int) }
      layers = try number("num_hidden_layers")
      hidden = try number("hidden_size")
      wide = try number("intermediate_size")
      heads = try number("num_attention_heads")
      keyHeads = try number("num_key_value_heads")
      headSize = config["head_dim"]?.int ?? hidden / heads
      vocabulary = try number("vocab_size")
    }

    /// Outputs and inputs of q, k, v, o, gate, up, down.
    var modules: [(Int, Int)] {
      let (query, key) = (heads * headSize, keyHeads * headSize)
      return [
        (query, hidden), (key, hidden), (key, hidden), (hidden, query), (wide, hidden),
        (wide, hidden), (hidden, wide),
      ]
    }
  }

  @Test("operations are those that the step's sizes make", arguments: [false, true])
  func operations(isFull: Bool) throws {
    let profile = try verb(isFull: isFull).run()
    let sizes = try Sizes()
    let (tokens, rank, labels) = (36, 2, 18)
    var gemm = 0
    for layer in 0..<sizes.layers {
      for (index, (outputs, inputs)) in sizes.modules.enumerated() {
        // Nothing is trained beneath the first q, k and v of a frozen base.
        let isFirst = !isFull && layer == 0 && index < 3
        // And from the last attention on there are only rows with a label.
        let rows = layer == sizes.layers - 1 && index >= 3 ? labels : tokens
        gemm += 2 * rows * outputs * inputs * (isFull ? 3 : isFirst ? 1 : 2)
        if !isFull {
          gemm += 2 * rows * rank * (3 * outputs + (isFirst ? 2 : 3) * inputs)
        }
      }
    }
    // 78 pairs in 12 positions; two products forward and five backward.
    let attention = 7 * 2 * 78 * 3 * sizes.layers * sizes.heads * sizes.headSize
    let head = (isFull ? 3 : 2) * 2 * labels * sizes.hidden * sizes.vocabulary
    func sum(_ kernel: String) -> Double {
      profile.rows.reduce(0) { $0 + ($1.kernel == kernel ? $1.flops : 0) }
    }
    #expect(sum("gemm") == Double(gemm))
    #expect(sum("attention") == Double(attention))
    #expect(sum("loss") == Double(head))
    #expect(profile.flops == Double(gemm + attention + head))
    // The formula of a step counts the first layer's adapters like all others.
    let spared = isFull ? 0 : 2 * tokens * rank * 3 * sizes.hidden
    #expect(profile.modelFlops == profile.flops + Double(spared))
  }

  @Test("every objective, with adapters and in full", arguments: ["dpo", "orpo"], [false, true])
  func objectives(objective: String, isFull: Bool) throws {
    let profile = try verb(objective, isFull: isFull, steps: 1).run()
    // What two answers share need not be computed twice, but nothing may be missing.
    #expect(profile.flops <= profile.modelFlops && profile.flops > 0.4 * profile.modelFlops)
    let passes = Set(profile.rows.map { "\($0.kernel) \($0.pass)" })
    var expected: Set = [
      "gemm forward", "gemm dgrad", "gemm wgrad", "attention forward", "attention backward",
      "loss frozen", "loss backward", "rmsnorm forward", "rmsnorm backward", "rope forward",
      "rope backward", "swiglu forward", "swiglu backward", "embedding forward", "norm step",
      "adamw step", "pack left", "pack right", "pack keys", "pack inside",
    ]
    if isFull { expected.formUnion(["loss wgrad", "embedding backward"]) }
    #expect(passes.isSuperset(of: expected))
  }

  @Test("parts of one step add up to it", arguments: [1, 2])
  func parts(_ threads: Int) throws {
    let profile = try verb(threads: threads, steps: 1).run()
    #expect(profile.stepSeconds.count == 1 && profile.dropped == 0 && profile.warning == nil)
    #expect(abs(profile.accountedSeconds / profile.medianSeconds - 1) < 1e-6)
    let rows = profile.rows.reduce(0) { $0 + $1.seconds }
    #expect(rows > 0 && rows <= profile.medianSeconds)
    for row in profile.rows {
      #expect(row.calls > 0 && row.seconds >= 0 && row.waitSeconds >= 0)
      #expect(row.waitSeconds + row.serialSeconds <= profile.medianSeconds)
      if let imbalance = row.imbalance { #expect(imbalance >= 1 && imbalance <= Double(threads)) }
    }
    #expect((profile.rows.contains { $0.imbalance != nil }) == (threads > 1))
    #expect(profile.rows.map(\.seconds) == profile.rows.map(\.seconds).sorted(by: >))
    let folded = profile.rows(by: .kernel)
    #expect(folded.count < profile.rows.count)
    #expect(folded.reduce(0) { $0 + $1.calls } == profile.rows.reduce(0) { $0 + $1.calls })
    #expect(folded.reduce(0) { $0 + $1.flops } == profile.flops)
  }

  @Test("a full buffer is told, and what fits is still there")
  func full() throws {
    var verb = verb(steps: 1)
    verb.capacity = 20
    let profile = try verb.run()
    #expect(profile.dropped > 0)
    #expect(profile.warning?.contains("\(profile.dropped) spans") == true)
    // One of them is the step.
    #expect(profile.rows.reduce(0) { $0 + ($1.pass == "inside" ? 0 : $1.calls) } == 19)
    #expect(profile.stepSeconds[0] > 0)
  }

  @Test("where counters are not permitted there is one line, where they are there are numbers")
  func counters() throws {
    var verb = verb(steps: 1)
    verb.counterOpener = { _ in -EACCES }
    let text = try verb.run().text(by: .kernel)
    let lines = text.split(separator: "\n").filter { $0.contains("hardware counters") }
    #expect(lines.count == 1 && lines[0].contains("perf_event_paranoid"))
    #expect(!text.contains("instructions per cycle"))
    // Time on a CPU can be counted everywhere, and here stands for all events.
    verb.counterOpener = { _ in HardwareCounters.system(.taskClock) }
    let counted = try verb.run()
    #expect(counted.counters.readings.count == 2 && counted.counters.problem == nil)
    #expect(counted.text(by: .kernel).contains("instructions per cycle"))
  }

  // MARK: - The trace

  @Test("a trace has a track for every worker, and its spans lie one inside the other")
  func trace() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    var verb = verb()
    verb.trace = folder + "/trace.json"
    let profile = try verb.run()
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["trace.json"])
    let json = try JSON.read(path: folder + "/trace.json")
    let events = try #require(json["traceEvents"]?.array)
    var tracks: [Int: String] = [:]
    var complete: [Int: [(name: String, begin: Double, end: Double)]] = [:]
    for event in events {
      if event["ph"]?.string == "M" {
        guard let track = event["tid"]?.int else { continue }
        tracks[track] = event["args"]?["name"]?.string
        continue
      }
      #expect(event["ph"]?.string == "X")
      let begin = try #require(event["ts"]?.double)
      let duration = try #require(event["dur"]?.double)
      #expect(begin >= 0 && duration >= 0)
      #expect(event["args"]?["shape"]?.string?.isEmpty == false)
      #expect(event["args"]?["flops"]?.double != nil && event["args"]?["bytes"]?.double != nil)
      complete[try #require(event["tid"]?.int), default: []].append(
        (try #require(event["name"]?.string), begin, begin + duration))
    }
    #expect(tracks == [0: "operations", 1: "worker 0", 2: "worker 1"])
    let operations = try #require(complete[0])
    #expect(operations.filter { $0.name == "step" }.count == 2)
    // What workers pack inside of a product is timed, but no operation.
    let calls = profile.rows.reduce(0) { $0 + ($1.pass == "inside" ? 0 : $1.calls) }
    #expect(operations.count == 2 + 2 * calls)
    // Three digits of microseconds are written.
    let grain = 0.002
    var around: [(begin: Double, end: Double)] = []
    for span in operations {
      while let last = around.last, last.end <= span.begin + grain, last.end < span.end {
        around.removeLast()
      }
      if let last = around.last { #expect(span.end <= last.end + grain, "\(span.name)") }
      around.append((span.begin, span.end))
    }
    for worker in 1...2 {
      let spans = try #require(complete[worker])
      #expect(spans.count == complete[1]?.count)
      for (before, after) in zip(spans, spans.dropFirst()) {
        #expect(before.end <= after.begin + grain)
      }
    }
  }

  @Test("a trace that cannot be written is told before anything is measured")
  func unwritable() throws {
    let folder = TestData.temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for (path, code) in [
      (folder, Int32(73)), (folder + "/absent/trace.json", 73), ("", 73), ("/dev/full", 74),
    ] {
      var verb = verb()
      verb.trace = path
      let error = #expect(throws: PAFTError.self) { try verb.run() }
      #expect(error?.exitCode == code, "\(path)")
      #expect(error?.message.contains("\n") == false)
      #expect(error?.message.contains("tmp-") == false)
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
  }

  @Test("settings out of range are a usage error")
  func usage() {
    for change: (inout ProfileVerb) -> Void in [
      { $0.steps = 0 }, { $0.steps = 1001 }, { $0.step.objective = "kto" }, { $0.step.length = 1 },
    ] {
      var verb = ProfileVerb()
      change(&verb)
      let error = #expect(throws: PAFTError.self) { try verb.run() }
      #expect(error?.exitCode == 64)
    }
  }
}

@Suite("paft profile, the command", .enabled(if: Tool.path != nil, "paft is not built beside"))
struct ProfileCommandTests {
  private let step = [
    "profile", "--model", TestData.fixture("models/llama"), "--length", "12", "--batch", "1",
    "--steps", "1", "--threads", "1",
  ]

  @Test("every format says the same of the rows")
  func formats() throws {
    let json = try Tool.run(step + ["--json", "--by", "kernel"])
    #expect(json.code == 0 && json.error.isEmpty)
    let value = try JSON.parse(Array(json.output.utf8), source: "profile")
    let rows = try #require(value["rows"]?.array)
    #expect(value["steps"]?.int == 1 && value["tokens"]?.int == 12 && value["dropped"]?.int == 0)
    let shares = rows.compactMap { $0["share"]?.double }
    let outside = try #require(value["summary"]?["outside"]?["share"]?.double)
    #expect(abs(shares.reduce(0, +) + outside - 1) < 1e-9)
    #expect(try #require(value["peak_gflops"]?["bf16"]?.double) > 0)
    #expect(value["counters"]?["workers"]?.array?.count == 1)
    for row in rows {
      for key in ["kernel", "dtype", "shape", "pass"] { #expect(row[key]?.string != nil) }
      for key in ["calls", "seconds", "gflops", "gbytes_per_second"] {
        #expect(row[key]?.double != nil)
      }
    }
    let csv = try Tool.run(step + ["--format", "csv", "--by", "kernel"])
    let lines = csv.output.split(separator: "\n")
    #expect(lines[0].hasPrefix("kernel,dtype,shape,pass,calls,seconds,share,gflops,"))
    #expect(lines.count == rows.count + 1)
    let markdown = try Tool.run(step + ["--format", "md"])
    #expect(markdown.output.contains("| kernel") && markdown.output.contains("| part"))
    let text = try Tool.run(step)
    #expect(text.code == 0 && text.output.contains("outside kernels"))
  }

  @Test(
    "what is wrong is one line and its exit code",
    arguments: [
      (["--steps", "0"], 64), (["--by", "layer"], 64), (["--dtype", "int4"], 64),
      (["--trace", "/absent/trace.json"], 73), (["--model", "/absent"], 66),
    ] as [([String], Int32)])
  func faults(arguments: [String], code: Int32) throws {
    let outcome = try Tool.run(step + arguments)
    #expect(outcome.code == code && outcome.output.isEmpty)
    #expect(outcome.error.contains("rror: "))
  }
}
