from deeds import boot, prepare

prepare()
boot.run_worker("sdxl")
