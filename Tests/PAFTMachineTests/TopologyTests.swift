// SPDX-License-Identifier: Apache-2.0

import Foundation
import PAFTBase
import PAFTMachine
import PAFTTestSupport
import Testing

struct TopologyTests {
  /// lscpu numbers cores and sockets in its own way; which CPUs share one must agree.
  @Test(arguments: machineNames)
  func coresSocketsAndNodesAreWhatLscpuReads(name: String) throws {
    let cpus = try machine(name).topology.cpus
    let table = try String(
      contentsOfFile: TestData.fixture("topology/\(name).lscpu"), encoding: .utf8)
    let rows = table.split(separator: "\n").map {
      $0.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
    }
    #expect(rows.map { $0[0] } == cpus.map(\.id))
    #expect(!rows.isEmpty)
    for (a, rowA) in zip(cpus, rows) {
      #expect(a.node == rowA[3])
      for (b, rowB) in zip(cpus, rows) {
        #expect((a.core == b.core) == (rowA[1] == rowB[1]), "cores of CPUs \(a.id) and \(b.id)")
        #expect((a.package == b.package) == (rowA[2] == rowB[2]), "sockets of \(a.id) and \(b.id)")
      }
    }
  }

  @Test func aNameWithoutANumberIsToldWithFamilyAndModel() throws {
    let info = "model name\t: AMD EPYC\ncpu family\t: 26\nmodel\t\t: 2"
    #expect(
      try machine("version-1-groups", changing: ["proc/cpuinfo": info]).topology.model
        == "AMD EPYC (family 26, model 2)")
    #expect(try machine("version-1-groups").topology.model == "AMD EPYC")
  }

  @Test func aTwoSocketServerIsReadInFull() throws {
    let machine = try machine("two-socket-epyc")
    let topology = machine.topology
    #expect(topology.model == "AMD EPYC 7302 16-Core Processor")
    #expect(topology.packages == [0, 1])
    #expect(topology.coreCount == 16)
    #expect(topology.cpus[5].core == topology.cpus[21].core)
    #expect(topology.caches.l1 == 32 << 10)
    #expect(topology.caches.l2 == 512 << 10)
    #expect(topology.caches.l3 == 16 << 20)
    #expect(topology.nodes.map(\.distances) == [[10, 32], [32, 10]])
    #expect(topology.nodes.map(\.memory) == [65_536_000 << 10, 65_536_000 << 10])
    #expect(topology.nodes[1].cpus == Array(8..<16) + Array(24..<32))
    #expect(topology.cpus.map(\.l3) == (0..<32).map { $0 % 16 / 4 * 4 })
    #expect(topology.hugePages.transparent == "madvise")
    #expect(topology.hugePages.pools == [.init(size: 2 << 20, count: 128, free: nil)])
    #expect(machine.memory.available == 120_000_000 << 10)
    #expect(machine.group.cpus == nil)
  }

  @Test func subNUMAClustersAndHugePagesAreReadInFull() throws {
    let machine = try machine("sub-numa-xeon")
    let topology = machine.topology
    #expect(topology.packages == [0, 1])
    #expect(topology.nodes.count == 8)
    #expect(topology.nodes[5].distances == [21, 21, 21, 21, 12, 10, 12, 12])
    #expect(topology.nodes[5].cpus == Array(20..<24) + Array(52..<56))
    #expect(topology.coreCount == 32)
    // The L3 is the socket's and spans its nodes.
    #expect(Set(topology.cpus.map(\.l3)) == [0, 16])
    #expect(topology.hugePages.transparent == "always")
    #expect(topology.hugePages.defrag == "madvise")
    #expect(
      topology.hugePages.pools == [
        .init(size: 2 << 20, count: 0, free: nil), .init(size: 1 << 30, count: 16, free: 12),
      ])
    let drawing = machine.describe()
    #expect(drawing.contains("huge pages: transparent always (defrag madvise), "))
    #expect(drawing.contains("0 of 2 MiB reserved, 16 of 1 GiB reserved (12 free)"))
  }

  @Test func threadsThatAreSwitchedOffAreNotUsed() throws {
    let machine = try machine("offline-threads")
    #expect(machine.topology.offline == [3, 5])
    #expect(machine.cores.map(\.id) == [0, 2, 4, 6])
    #expect(machine.granted == [0, 1, 2, 4, 6, 7])
  }

  @Test func aNodeOfMemoryOnlyAndANodeWithoutMemoryAreUnderstood() throws {
    let node = "sys/devices/system/node"
    let machine = try machine(
      "two-socket-epyc",
      changing: [
        node + "/online": "0-2", node + "/node2/cpulist": "", node + "/node2/distance": "20 20 10",
        node + "/node2/meminfo": "Node 2 MemTotal:  1048576 kB",
        node + "/node1/meminfo": "Node 1 MemTotal:  0 kB",
      ])
    #expect(machine.topology.nodes.map(\.cpus.count) == [16, 16, 0])
    // Nothing can be bound to node 1, so its place does not ask for it.
    #expect(machine.split(into: 2, threads: nil).map(\.node) == [0, nil])
    let drawing = machine.describe()
    #expect(drawing.contains("node 1   no memory"))
    #expect(drawing.contains("└─ node 2   1 GiB   distances 20 20 10   no CPUs"))
  }

  @Test func hiddenSysfsLeavesTheGrantedCPUsAsCores() throws {
    let tree = try MachineTree(nil)
    try tree.put("proc/self/status", "Cpus_allowed_list:\t2-4\nMems_allowed_list:\t0")
    let machine = try tree.detect()
    #expect(machine.place(threads: nil) == Place(cpus: [2, 3, 4], node: 0))
  }

  @Test func noCPUAtAllIsAClearFault() throws {
    let tree = try MachineTree(nil)
    let fault = #expect(throws: Fault.self) { try tree.detect() }
    #expect(fault?.message.hasPrefix("no CPU found: ") == true)
    #expect(throws: Fault.self) {
      try machine("smt-laptop", changing: ["proc/self/status": "Cpus_allowed_list:\t9"])
    }
  }

  @Test(arguments: [
    "sys/devices/system/cpu/online", "sys/devices/system/cpu/present",
    "sys/devices/system/node/online", "sys/devices/system/cpu/cpu0/topology/core_cpus_list",
    "sys/devices/system/cpu/cpu0/cache/index0/size", "sys/devices/system/node/node0/meminfo",
    "sys/fs/cgroup/kubepods.slice/pod1/cpu.max", "proc/self/mountinfo", "proc/self/cgroup",
    "proc/self/status", "proc/meminfo", "proc/cpuinfo",
  ])
  func nonsenseInAnyFileNeverTraps(path: String) throws {
    let tree = try MachineTree("quota-container")
    for text in [
      "", "-", ",", "0-", "5-1", "0-99999999999999999999", "-1", "x\u{0}y", "0::/../..",
      "Cpus_allowed_list: 9-", "MemTotal: 9223372036854775807 kB", "99999999999999999999999 1",
      "1 2 3 - cgroup2 a b", "a b c d\\9 e\\777 f - cgroup2 a b", "9999999999999G",
    ] {
      try tree.put(path, text)
      let machine = try tree.detect()
      #expect(machine.workers >= 1)
      #expect(machine.split(into: 3, threads: 2).count == 3)
      #expect(!machine.describe().isEmpty)
    }
  }

  @Test func theRunningMachineGrantsWhatTheKernelGrants() throws {
    let machine = try Machine.detect()
    #expect(machine.granted == granted)
    #expect(machine.cores.count >= 1)
    #expect(machine.place(threads: nil).count <= granted.count)
    #expect(try #require(machine.memory.total) > 0)
    #expect(Machine.peakResident > 1 << 20)
  }

  @Test func theDrawingShowsTheMachineAndWhatIsGranted() throws {
    #expect(
      try machine("quota-container").describe() == """
        AMD EPYC 9654 96-Core Processor: 1 package, 1 node, 8 cores, 8 threads
        L1 32 KiB, L2 1 MiB a core
        └─ package 0
           └─ node 0   30.5 GiB   distances 10
              └─ L3 32 MiB   cores 0-7

        granted to this process
          CPUs     0-7, 8 cores
          quota    1.5 CPUs (/sys/fs/cgroup/kubepods.slice/pod1)
          workers  2
          memory   2 GiB (/sys/fs/cgroup/kubepods.slice/pod1/main), 28.6 GiB available
          huge pages: transparent absent, none reserved

        """)
    let server = try machine("two-socket-epyc").describe()
    #expect(server.contains("├─ package 0\n│  └─ node 0   62.5 GiB   distances 10 32\n"))
    #expect(server.contains("│     ├─ L3 16 MiB   cores 0-3   threads 0-3,16-19\n"))
  }
}

struct CPUListTests {
  @Test(
    arguments: [
      ("", []), ("0", [0]), ("0-3", [0, 1, 2, 3]), ("8,0-1", [0, 1, 8]), ("1,1-2,2", [1, 2]),
      ("16383", [16383]),
    ] as [(String, [Int])])
  func listsAreRead(text: String, cpus: [Int]) {
    #expect(CPUList.parse(text) == cpus)
  }

  @Test(arguments: ["x", "1-", "-1", "1-2-3", "3-1", "1,,2", "1,", ",", "+1", "16384", "1 2", "０"])
  func whatIsNoListIsRefused(text: String) {
    #expect(CPUList.parse(text) == nil)
  }

  @Test func writingIsTheInverseOfReading() {
    #expect(CPUList.format([3, 0, 1, 8, 2, 8]) == "0-3,8")
    #expect(CPUList.format([]) == "")
    for seed in 0..<200 {
      let random = CounterRandom(seed: UInt64(seed))
      let cpus = (0..<64).filter { random.bits(UInt64($0)) & 3 != 0 }
      #expect(CPUList.parse(CPUList.format(cpus)) == cpus)
    }
  }
}
