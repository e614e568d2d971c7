import Testing
import Checkpoints

@Test func moduleLoads() {}
