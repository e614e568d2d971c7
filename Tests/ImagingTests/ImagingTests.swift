import Testing
import Imaging

@Test func moduleLoads() {}
