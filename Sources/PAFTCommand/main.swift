print("paft")
