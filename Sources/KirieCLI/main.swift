print("kirie")
